/** An image as sandboxes use it: read-only layers and what its maker wanted programs to be started with. */

export interface ImageConfig {
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  /** Name or "uid[:gid]". */
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** E.g. "8080/tcp". */
  readonly exposedPorts: readonly string[];
}

export interface LocalImage {
  /** As it was asked for, e.g. "python:3.11-slim". */
  readonly name: string;
  /** Identifies the content: "sha256:…" of the manifest, or the recipe's version for a bootstrapped image. */
  readonly digest: string;
  /** Directories on the host, uppermost first. */
  readonly layers: readonly string[];
  readonly config: ImageConfig;
  /** The image that really lies behind the name, where the user mapped the name to another one. */
  readonly mappedTo?: string;
}

/** What results say that they were made with: which content, and whether the name only stood for it. */
export const imageLabel = (image: LocalImage): string =>
  `${image.name}@${image.digest}${image.mappedTo === undefined ? "" : ` (mapped to ${image.mappedTo})`}`;
