/** State of one path of a sandbox as seen from outside; the same shape that sandbox drivers report. */
export interface Fingerprint {
  readonly path: string;
  readonly exists: boolean;
  readonly sha256: string | null;
  readonly mode: number | null;
  readonly size: number | null;
  /** Opened for reading since the sandbox was made. */
  readonly wasRead: boolean;
}

export type ChangeKind = "created" | "modified" | "deleted" | "read";

export interface PathChange {
  readonly path: string;
  readonly change: ChangeKind;
  /** SHA-256 before and after; null where there is no file. */
  readonly before: string | null;
  readonly after: string | null;
}

/**
 * What happened to one path between two looks, in the order in which it can be told: a file may have been read and then changed.
 * New permission bits are a modification, because they decide who can read, write and run the file.
 */
export function changesBetween(before: Fingerprint, after: Fingerprint): PathChange[] {
  const hashes = { path: after.path, before: before.sha256, after: after.sha256 };
  const changes: PathChange[] = [];
  if (after.wasRead && !before.wasRead) changes.push({ ...hashes, change: "read" });
  if (before.exists !== after.exists)
    changes.push({ ...hashes, change: after.exists ? "created" : "deleted" });
  else if (before.sha256 !== after.sha256 || before.mode !== after.mode || before.size !== after.size)
    changes.push({ ...hashes, change: "modified" });
  return changes;
}
