import { spawn } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { MS_NODEV, MS_NOSUID, MS_RDONLY, mount, unmount } from "../host/native.ts";
import { findTool } from "../host/tools.ts";

/** The layers of a local image as the one directory that they make, and that as a tar. */

/** The layers as one directory, uppermost first, read only. */
export function mergeLayers(layers: readonly string[]): { readonly path: string } & Disposable {
  const [only] = layers;
  if (only === undefined) throw new AleError("image-invalid", "the image has no layers");
  if (layers.length === 1) return { path: only, [Symbol.dispose]: () => {} };
  const path = mkdtempSync(join(tmpdir(), "ale-merge-"));
  const opened = layers.map((layer) => openSync(layer, constants.O_RDONLY | constants.O_DIRECTORY));
  try {
    const data = `lowerdir=${opened.map((fd) => `/proc/self/fd/${fd}`).join(":")}`;
    mount({ type: "overlay", source: "ale", target: path, flags: MS_NOSUID | MS_NODEV | MS_RDONLY, data });
  } catch (error) {
    rmdirSync(path);
    throw error;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
  return {
    path,
    [Symbol.dispose]: () => {
      unmount(path);
      rmdirSync(path);
    },
  };
}

/** All of a directory, with numbers for owners. Throws an AleError. */
export async function* tarOf(directory: string): AsyncGenerator<Uint8Array> {
  const tar = findTool("tar");
  if (tar === undefined)
    throw new AleError("tool-missing", "tar is not installed", { next: "apt install tar" });
  const argv = [
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=security.capability",
    "-C",
    directory,
    "-c",
    ".",
  ];
  const child = spawn(tar, argv, { stdio: ["ignore", "pipe", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString("utf8")).slice(-2_000);
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", () => resolve(null));
    child.once("close", resolve);
  });
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    const code = await ended;
    if (code !== 0)
      throw new AleError("image-invalid", `tar could not read the image: ${complaint.trim()}`, {
        next: "bootstrap or pull the image again",
      });
  } finally {
    child.kill("SIGKILL");
  }
}
