import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { AleError } from "@ale/core";
import { removeTree } from "../host/mounts.ts";

/** A copy of a layer: owners, modes, times, hard links, holes, extended attributes and whiteouts as they are. */
export async function copyLayer(layer: string, target: string, signal?: AbortSignal): Promise<void> {
  if (existsSync(target))
    throw new AleError("layer-exists", `${target} is there already`, {
      next: "name a directory that is not",
    });
  try {
    // As an argument, `layer` is a directory and not a link; below it cp follows none. Nothing else runs in it.
    await promisify(execFile)("cp", ["-a", "--no-target-directory", "--", layer, target], { signal });
  } catch (cause) {
    removeTree(target);
    signal?.throwIfAborted();
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new AleError(
      /No space left/.test(message) ? "disk-full" : "layer-failed",
      `the layer could not be copied: ${message.slice(0, 500)}`,
      { next: "free some space where it goes", cause },
    );
  }
}
