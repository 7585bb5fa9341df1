import { execFile } from "node:child_process";
import { mkdirSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { AleError, type Limits } from "@ale/core";
import type { Tree } from "../files/tree.ts";
import { MS_NODEV, MS_NOSUID, mount } from "../host/native.ts";
import { findTool } from "../host/tools.ts";
import type { LocalImage } from "../image/local-image.ts";
import type { SandboxSpec } from "../port/sandbox.ts";
import { mountOverlay } from "./overlay.ts";
import type { SandboxUsers } from "./sandbox-users.ts";
import type { Places } from "./state.ts";

/** The root filesystem of a sandbox: the image below, a bounded writable layer above, the spec's files in it. */

const TMPFS_MAGIC = 0x01021994;

/**
 * Layers are kept with the numbers of users that the image has; `users` maps them to those of this sandbox, so that any number of sandboxes
 * share them. Throws an AleError or a SystemCallError; what is mounted by then is the caller's to unmount.
 */
export async function mountRoot(
  place: Places,
  image: LocalImage,
  limits: Limits,
  users?: SandboxUsers,
): Promise<void> {
  mkdirSync(place.layer);
  mkdirSync(place.root);
  if (fitsInMemory(limits)) mountMemory(place, limits.diskBytes);
  else await mountDisk(place, limits.diskBytes);
  const [upper, work] = [join(place.layer, "upper"), join(place.layer, "work")];
  for (const path of [upper, work]) mkdirSync(path, { mode: 0o755 });
  for (const name of ["bundle", "runtime"]) mkdirSync(join(place.layer, name), { mode: 0o700 });
  mountOverlay({ layer: place.layer, lower: image.layers, root: place.root, users });
}

/**
 * Files in memory count towards the sandbox's memory limit and cannot be reclaimed, so a writable layer is kept there only if it
 * leaves half of the memory to the processes even when it is full.
 */
export const fitsInMemory = (limits: Limits): boolean => limits.diskBytes <= limits.memoryBytes / 2;

/** A tmpfs: its size is the hard disk limit, it costs a fraction of a millisecond, and it vanishes with its mount. */
function mountMemory(place: Places, diskBytes: number): void {
  const inodes = Math.max(1024, Math.min(1 << 20, Math.floor(diskBytes / 4096)));
  const data = `size=${diskBytes},nr_inodes=${inodes},mode=700`;
  mount({ type: "tmpfs", source: "ale", target: place.layer, flags: MS_NOSUID | MS_NODEV, data });
}

/** A file system of its own in a sparse file: about 40 ms, for sandboxes whose files may outgrow their memory. */
async function mountDisk(place: Places, diskBytes: number): Promise<void> {
  // There the file's own pages would count as the sandbox's memory, and the kernel would end it for filling its disk.
  if (statfsSync(place.directory).type === TMPFS_MAGIC)
    throw new AleError(
      "disk-in-memory",
      "a disk larger than half of limits.memoryBytes needs a real disk below it",
      {
        next: "set ALE_HOME to a directory that is not on tmpfs, or lower limits.diskBytes",
      },
    );
  const image = join(place.directory, "disk.img");
  writeFileSync(image, "");
  truncateSync(image, diskBytes);
  const format = ["-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", image];
  await runTool("mkfs.ext4", format, "e2fsprogs");
  await runTool("mount", ["-t", "ext4", "-o", "loop,nosuid,nodev", image, place.layer], "mount");
}

async function runTool(name: string, argv: readonly string[], debianPackage: string): Promise<void> {
  const tool = findTool(name);
  if (tool === undefined)
    throw new AleError("tool-missing", `${name} is not installed`, { next: `apt install ${debianPackage}` });
  try {
    await promisify(execFile)(tool, argv);
  } catch (cause) {
    throw new AleError("disk-failed", `${name} failed: ${cause instanceof Error ? cause.message : cause}`, {
      next: "free some disk space, or lower limits.diskBytes to half of limits.memoryBytes",
      cause,
    });
  }
}

/** What is used of a writable layer. Null where it is no longer mounted. */
export function usageOf(layer: string): { diskBytes: number | null; diskInodes: number | null } {
  try {
    const { blocks, bfree, bsize, files, ffree } = statfsSync(layer);
    return { diskBytes: (blocks - bfree) * bsize, diskInodes: files - ffree };
  } catch {
    return { diskBytes: null, diskInodes: null };
  }
}

/** Puts the spec's workdir and files in place. `onPlanted` gets every file, open. Throws an AleError. */
export function plant(tree: Tree, spec: SandboxSpec, onPlanted: (path: string, fd: number) => void): void {
  const workdir = tree.makeDirectory(spec.workdir ?? "/", "agent");
  if (!workdir.ok) throw unusable("workdir", spec.workdir ?? "/", workdir.error.type);
  for (const file of spec.files) {
    const written = tree.write(file, (fd) => onPlanted(file.path, fd));
    if (!written.ok) throw unusable("file", file.path, written.error.type);
  }
}

function unusable(what: string, path: string, why: string): AleError {
  return new AleError("spec-invalid", `the ${what} ${path} cannot be put into the sandbox: ${why}`, {
    next: "use an absolute path without `..` and without symbolic links of the image on the way",
  });
}
