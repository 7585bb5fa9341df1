import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { layerPlace } from "./layer.ts";
import { listDurableSpaces, readSandboxState } from "./state.ts";

/** What the runtime and PID 1 of a kept sandbox said since it last started. It lies in its layer, whose mount only its owner's namespace sees. */

export const runtimeLogOf = (space: string, layer: string): string =>
  join(layerPlace(space, layer).bundle, "log");

const LONGEST = 64 * 2 ** 10;

/** Its end; undefined where there is none, or none that can be seen from here. */
export function readRuntimeLog(home: string, id: string): string | undefined {
  for (const space of listDurableSpaces(home)) {
    const state = readSandboxState(space, id);
    const text = state === undefined ? undefined : readEnd(runtimeLogOf(space, state.layer));
    if (text !== undefined) return text;
  }
  return undefined;
}

function readEnd(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    const { size } = fstatSync(fd);
    const buffer = Buffer.alloc(Math.min(size, LONGEST));
    const read = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    return buffer.subarray(0, read).toString("utf8");
  } finally {
    closeSync(fd);
  }
}
