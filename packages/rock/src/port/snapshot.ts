import type { Limits, NetworkChange } from "@ale/core";

/** Immutable states of a sandbox's files, from which any number of sandboxes are forked in constant time. */

export interface SnapshotOptions {
  /**
   * `restart` seals the writable layer in constant time and starts the sandbox anew above it: its processes are lost, its shells'
   * directory, exported variables and functions are carried over. `keep` freezes the sandbox and copies its writable layer, which takes time
   * in proportion to it. Default: `restart`.
   */
  readonly processes?: "restart" | "keep";
  readonly labels?: Readonly<Record<string, string>>;
}

export interface Snapshot {
  readonly id: string;
  readonly image: string;
  /** The snapshot that the sandbox itself was forked from, or its last one. */
  readonly parent: string | null;
  /** The sandbox that it was taken of. */
  readonly sandbox: string;
  readonly createdAtMs: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Bytes and inodes of this snapshot's own layer. */
  readonly bytes: number;
  readonly inodes: number;
  /** Layers between it and the image. */
  readonly depth: number;
}

export interface SnapshotResult {
  readonly snapshot: Snapshot;
  /** What became of the processes of the sandbox it was taken of. A fork never has any. */
  readonly processes: "lost" | "kept" | "none";
}

export interface ForkOptions {
  readonly labels?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly limits?: Limits;
  /** Budgets that it does not name are those of the snapshot; nothing of them is used. */
  readonly network?: NetworkChange;
}

export interface DiffEntry {
  readonly path: string;
  readonly change: "added" | "changed" | "removed";
  readonly type: "file" | "directory" | "symlink" | "other";
  /** SHA-256 of a regular file's bytes (of a link: of its target) before and after; null where there is none. */
  readonly before: string | null;
  readonly after: string | null;
}
