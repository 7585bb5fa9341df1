import { execFile } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { lstat, opendir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { AleError, type Limits } from "@ale/core";
import { z } from "zod";
import { mountImage } from "../host/loop.ts";
import { isMountPoint, removeTreeAside, unmountAside } from "../host/mounts.ts";
import {
  MS_BIND,
  MS_NODEV,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
  mount,
  type SystemCallError,
} from "../host/native.ts";
import { isRootless } from "../host/rootless.ts";
import { findTool } from "../host/tools.ts";
import { readWhole, writeWhole } from "./state.ts";

/**
 * Layers: what sandboxes write. Each is a file system of its own, of the size of its disk limit, that stays mounted where it was made:
 * first a sandbox writes to it, and once it is sealed, it lies read-only below as many others as like. A merged layer is a
 * plain directory.
 */

const TMPFS_MAGIC = 0x01021994;

export interface LayerPlace {
  readonly id: string;
  /** Where it is mounted. */
  readonly directory: string;
  /** Its ext4, unless it lies in memory. */
  readonly image: string;
  readonly upper: string;
  readonly work: string;
  /** The runtime's, as long as a sandbox runs on it. */
  readonly bundle: string;
  readonly runtime: string;
  /** Bound over the image's. */
  readonly hosts: string;
  readonly resolver: string;
}

export const layersOf = (space: string): string => join(space, ".layers");

export function layerPlace(space: string, id: string): LayerPlace {
  const directory = join(layersOf(space), id);
  const part = (name: string): string => join(directory, name);
  return {
    id,
    directory,
    image: `${directory}.img`,
    upper: part("upper"),
    work: part("work"),
    bundle: part("bundle"),
    runtime: part("runtime"),
    hosts: part("hosts"),
    resolver: part("resolv.conf"),
  };
}

/**
 * Files in memory count towards the sandbox's memory limit and cannot be reclaimed, so a writable layer is kept there only if it
 * leaves half of the memory to the processes even when it is full.
 */
export const fitsInMemory = (limits: Limits): boolean => limits.diskBytes <= limits.memoryBytes / 2;

export const liesInMemory = (directory: string): boolean => statfsSync(directory).type === TMPFS_MAGIC;

/** Throws an AleError or a SystemCallError; then nothing is left. */
export async function makeLayer(place: LayerPlace, limits: Limits): Promise<void> {
  mkdirSync(place.directory, { recursive: true, mode: 0o700 });
  try {
    // An ordinary user has no loop devices.
    if (fitsInMemory(limits) || isRootless()) mountMemory(place, limits.diskBytes);
    else await mountDisk(place, limits.diskBytes);
    mkdirSync(place.upper, { mode: 0o755 });
    prepareLayer(place);
  } catch (error) {
    await removeLayer(place);
    throw asDiskFull(error) ?? error;
  }
}

/** What is beside the files while a sandbox runs on the layer. Made anew each time: overlayfs refuses a work directory after a crash. */
export function prepareLayer(place: LayerPlace): void {
  clearLayer(place);
  // Users of a former run, whom this one's may not know, were let in.
  chownSync(place.directory, 0, 0);
  chmodSync(place.directory, 0o700);
  mkdirSync(place.work, { mode: 0o755 });
  for (const path of [place.bundle, place.runtime]) mkdirSync(path, { mode: 0o700 });
}

function clearLayer(place: LayerPlace): void {
  for (const path of [place.work, place.bundle, place.runtime])
    rmSync(path, { recursive: true, force: true });
}

/** Nothing changes it from now on. No process may use it; that the kernel has forgotten its last overlay is not needed. */
export function sealLayer(place: LayerPlace): void {
  clearLayer(place);
  remount(place, MS_RDONLY);
}

/** Takes back a seal that a crash left of a snapshot which nobody knows of. */
export function unsealLayer(place: LayerPlace): void {
  if (isMountPoint(place.directory)) remount(place, 0);
}

function remount(place: LayerPlace, more: number): void {
  const flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | more;
  mount({ type: null, source: null, target: place.directory, flags });
}

/** Mounts again what a reboot unmounted. False where it lay in memory and is lost. */
export async function recoverLayer(place: LayerPlace): Promise<boolean> {
  if (isMountPoint(place.directory)) return true;
  if (!existsSync(place.image)) return existsSync(place.upper);
  const checker = findTool("e2fsck");
  // It exits with 1 where it repaired something; what it could not repair, the mount refuses.
  if (checker !== undefined) await promisify(execFile)(checker, ["-p", place.image]).catch(() => {});
  mountImage(place.image, place.directory);
  return true;
}

/** The memory of a large one takes a while to give back, so that happens beside the event loop. */
export async function removeLayer(place: LayerPlace): Promise<void> {
  while (await unmountAside(place.directory));
  try {
    await rmdir(place.directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") await removeTreeAside(place.directory);
  }
  rmSync(place.image, { force: true });
}

const Merged = z.object({
  /** What it was made of, uppermost first. */
  parts: z.array(z.string()),
  bytes: z.number(),
  inodes: z.number(),
});
export type Merged = z.infer<typeof Merged>;

const mergedFile = (place: LayerPlace): string => join(place.directory, "merged.json");

/** Written last: without it a merged layer is not whole. */
export const writeMerged = (place: LayerPlace, merged: Merged): void => writeWhole(mergedFile(place), merged);

/** Undefined for a layer that a sandbox wrote. */
export const readMerged = (place: LayerPlace): Merged | undefined => readWhole(mergedFile(place), Merged);

/** Of a plain directory, where there is no file system to ask. */
export async function usageBelow(directory: string): Promise<{ bytes: number; inodes: number }> {
  const sum = { bytes: 0, inodes: 0 };
  for await (const entry of await opendir(directory, { recursive: true })) {
    const { blocks } = await lstat(join(entry.parentPath, entry.name));
    sum.bytes += blocks * 512;
    sum.inodes++;
  }
  return sum;
}

/** What is used of a layer. Null where it is no longer there. */
export function usageOf(place: LayerPlace): { diskBytes: number | null; diskInodes: number | null } {
  try {
    const merged = readMerged(place);
    if (merged !== undefined) return { diskBytes: merged.bytes, diskInodes: merged.inodes };
    const { blocks, bfree, bsize, files, ffree } = statfsSync(place.directory);
    return { diskBytes: (blocks - bfree) * bsize, diskInodes: files - ffree };
  } catch {
    return { diskBytes: null, diskInodes: null };
  }
}

/** A tmpfs: its size is the hard disk limit, it costs a fraction of a millisecond, and it vanishes with its mount. */
function mountMemory(place: LayerPlace, diskBytes: number): void {
  const inodes = Math.max(1024, Math.min(1 << 20, Math.floor(diskBytes / 4096)));
  const data = `size=${diskBytes},nr_inodes=${inodes},mode=700`;
  mount({ type: "tmpfs", source: "ale", target: place.directory, flags: MS_NOSUID | MS_NODEV, data });
}

/** A file system of its own in a sparse file: about 15 ms, for sandboxes whose files may outgrow their memory. */
async function mountDisk(place: LayerPlace, diskBytes: number): Promise<void> {
  // There the file's own pages would count as the sandbox's memory, and the kernel would end it for filling its disk.
  if (liesInMemory(join(place.directory, "..")))
    throw new AleError(
      "disk-in-memory",
      "a disk of more than half the sandbox's memory (limits.diskBytes, limits.memoryBytes) needs a real disk, and ALE_HOME lies in memory (tmpfs)",
      {
        next: "set ALE_HOME to a directory that is not on tmpfs, or ask for less with limits.diskBytes",
      },
    );
  writeFileSync(place.image, "", { mode: 0o600 });
  truncateSync(place.image, diskBytes);
  const format = ["-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"];
  await runTool("mkfs.ext4", [...format, place.image], "e2fsprogs");
  try {
    mountImage(place.image, place.directory);
  } catch (cause) {
    throw diskFailed(`it cannot be mounted: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

async function runTool(name: string, argv: readonly string[], debianPackage: string): Promise<void> {
  const tool = findTool(name);
  if (tool === undefined)
    throw new AleError("tool-missing", `${name} is not installed`, { next: `apt install ${debianPackage}` });
  try {
    await promisify(execFile)(tool, argv);
  } catch (cause) {
    throw diskFailed(`${name} failed: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

function diskFailed(what: string, cause: unknown): AleError {
  return new AleError("disk-failed", `no disk for the sandbox: ${what}`, {
    next: "free some disk space, or lower limits.diskBytes to half of limits.memoryBytes",
    cause,
  });
}

/** Undefined for any other failure. */
export function asDiskFull(error: unknown): AleError | undefined {
  const code = (error as NodeJS.ErrnoException | SystemCallError).code;
  if (code !== "ENOSPC" && code !== "EDQUOT" && code !== "ENOMEM") return undefined;
  return new AleError("disk-full", "no room on the host for the files of another sandbox", {
    next: "free some disk space below ALE_HOME, remove snapshots, or end other sandboxes",
    cause: error,
  });
}
