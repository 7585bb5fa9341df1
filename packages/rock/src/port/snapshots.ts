import type { Sandbox } from "./sandbox.ts";
import type { DiffEntry, ForkOptions, Snapshot } from "./snapshot.ts";

/** The snapshots of a driver. */

export interface Snapshots {
  list(): Promise<readonly Snapshot[]>;
  get(id: string): Promise<Snapshot | undefined>;
  /** Its layers go when no sandbox and no other snapshot needs them. Unknown ids are an AleError `snapshot-unknown`. */
  remove(id: string): Promise<void>;
  /** `count` sandboxes that begin where the snapshot was taken, each with its own identity. On failure none is left. */
  fork(id: string, count: number, options?: ForkOptions, signal?: AbortSignal): Promise<readonly Sandbox[]>;
  /** Sorted by path. `from` null: the image. */
  diff(from: string | null, to: string): Promise<readonly DiffEntry[]>;
}
