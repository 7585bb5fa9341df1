import { NetworkChange, SandboxFile } from "@ale/core";
import { z } from "zod";
import { Environment, Flag, LimitsChange, Path } from "./schemas.ts";

/** Files, snapshots and images on the wire of the native API. */

const User = z.string().min(1).max(128);
const Mode = z.number().int().min(0).max(0o7777);
const ModeText = z
  .string()
  .regex(/^0?[0-7]{1,4}$/, "permission bits in octal, e.g. 644")
  .transform((text) => Number.parseInt(text, 8));

export const PathQuery = z.strictObject({ path: Path });
export const StatQuery = PathQuery.extend({ followLinks: Flag });
export const FileStatView = z
  .object({
    path: z.string(),
    type: z.enum(["file", "directory", "symlink", "fifo", "socket", "device"]),
    size: z.number(),
    mode: z.number(),
    uid: z.number(),
    gid: z.number(),
    modifiedMs: z.number(),
    target: z.string().optional(),
  })
  .meta({ id: "FileStat" });
export const ListFilesQuery = PathQuery.extend({
  recursive: Flag,
  limit: z.coerce.number().int().min(1).max(100_000).default(10_000),
});
export const FileList = z.object({ entries: z.array(FileStatView), more: z.boolean() });
export const ContentQuery = PathQuery.extend({
  links: z.enum(["follow", "refuse"]).default("follow").describe("`refuse`: no link on the way is followed."),
  maxBytes: z.coerce.number().int().min(1).optional().describe("A larger file is refused."),
});
export const WriteQuery = PathQuery.extend({
  mode: ModeText.optional(),
  user: User.optional(),
  append: Flag,
});
export const Written = z.object({ bytes: z.number() });
export const WriteFilesBody = z.strictObject({ files: z.array(SandboxFile).max(10_000) });
export const DirectoryBody = z.strictObject({ path: Path, mode: Mode.optional(), user: User.optional() });
export const RemoveQuery = PathQuery.extend({ recursive: Flag });
export const MoveBody = z.strictObject({ from: Path, to: Path, overwrite: z.boolean().default(false) });
export const OwnerBody = z.strictObject({ path: Path, user: User, recursive: z.boolean().default(false) });
export const ModeBody = z.strictObject({ path: Path, mode: Mode, recursive: z.boolean().default(false) });
export const UploadQuery = z.strictObject({ directory: Path, user: User.optional() });
export const Uploaded = z.object({ entries: z.number(), bytes: z.number() });
export const WatchQuery = PathQuery.extend({ recursive: Flag });
export const FingerprintBody = z.strictObject({ paths: z.array(Path).max(1_000) });
export const FingerprintView = z.object({
  path: z.string(),
  exists: z.boolean(),
  sha256: z.string().nullable(),
  mode: z.number().nullable(),
  size: z.number().nullable(),
  wasRead: z.boolean(),
});
export const Fingerprints = z.object({ fingerprints: z.array(FingerprintView) });

const Labels = z.record(z.string().min(1).max(128), z.string().max(1_024));
export const SnapshotId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/, "not a snapshot's id");
export const SnapshotParams = z.object({ snapshotId: SnapshotId });
export const SnapshotView = z
  .object({
    id: z.string(),
    image: z.string(),
    parent: z.string().nullable(),
    sandbox: z.string(),
    createdAtMs: z.number(),
    labels: z.record(z.string(), z.string()),
    bytes: z.number(),
    inodes: z.number(),
    depth: z.number(),
  })
  .meta({ id: "Snapshot" });
export const SnapshotBody = z.strictObject({
  processes: z.enum(["restart", "keep"]).default("restart"),
  labels: Labels.optional(),
});
export const SnapshotTaken = z.object({
  snapshot: SnapshotView,
  processes: z.enum(["lost", "kept", "none"]),
});
export const ForkBody = z
  .strictObject({
    count: z.number().int().min(1).max(256).default(1),
    labels: Labels.optional(),
    env: Environment.optional(),
    limits: LimitsChange.optional().describe(
      "What is not named is as in the sandbox that the snapshot was taken of.",
    ),
    network: NetworkChange.optional().describe(
      "Default, and for budgets that are not named: that of the sandbox when the snapshot was taken.",
    ),
  })
  .meta({ id: "ForkRequest" });
export const SnapshotList = z.object({ snapshots: z.array(SnapshotView) });
export const DiffQuery = z.strictObject({
  from: SnapshotId.optional().describe("Default: the image."),
  to: SnapshotId,
});
export const DiffView = z.object({
  entries: z.array(
    z.object({
      path: z.string(),
      change: z.enum(["added", "changed", "removed"]),
      type: z.enum(["file", "directory", "symlink", "other"]),
      before: z.string().nullable(),
      after: z.string().nullable(),
    }),
  ),
});
export const RevertBody = z.strictObject({ snapshot: SnapshotId });
