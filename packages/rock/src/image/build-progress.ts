/** What a build tells while it runs. Lines are those of the Dockerfile. */
export type BuildProgress =
  | { readonly type: "step"; readonly line: number; readonly text: string; readonly cached: boolean }
  | { readonly type: "output"; readonly line: number; readonly chunk: Uint8Array }
  | { readonly type: "warning"; readonly line: number; readonly message: string };
