import { execFile } from "node:child_process";
import type { Stats } from "node:fs";
import { lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { isOpaque, makeOpaque } from "../host/xattr.ts";

/**
 * Several sealed layers as one that says the same about the image below: what they removed is a whiteout in it, what they replaced is
 * opaque. A copy, in proportion to what is in them; nobody waits for it.
 */

/** `layers`: uppermost first. `target`: an empty directory. What it holds after a failure is worth nothing. */
export async function mergeLayers(
  layers: readonly string[],
  target: string,
  signal: AbortSignal,
): Promise<void> {
  for (const layer of [...layers].reverse()) {
    await makeRoom(layer, target, signal);
    await promisify(execFile)("cp", ["-a", "--no-target-directory", "--", layer, target], { signal });
  }
}

/** Takes out of `target` what an entry of the layer above it hides. */
async function makeRoom(layer: string, target: string, signal: AbortSignal): Promise<void> {
  for (const name of await readdir(layer)) {
    signal.throwIfAborted();
    const [above, below] = [join(layer, name), join(target, name)];
    const there = await lstatOf(below);
    if (there === undefined) continue;
    const isDirectory = (await lstat(above)).isDirectory();
    if (isDirectory && there.isDirectory() && !isOpaque(above)) {
      await makeRoom(above, below, signal);
      continue;
    }
    await rm(below, { recursive: true, force: true });
    if (!isDirectory) continue;
    // What was there hid what the image has below it, and so does what comes instead.
    await mkdir(below);
    makeOpaque(below);
  }
}

async function lstatOf(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch {
    return undefined;
  }
}
