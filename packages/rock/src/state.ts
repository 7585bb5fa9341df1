import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Owner } from "./owner.ts";

/**
 * What a driver writes down about each sandbox, so that another process can clean up after it. One directory a sandbox under
 * `<home>/rock/sandboxes`, holding `state.json` and everything else of the sandbox that lies on disk.
 */

const State = z.object({
  id: z.string(),
  image: z.string(),
  createdAtMs: z.number(),
  labels: z.record(z.string(), z.string()),
  owner: z.object({ pid: z.number(), startTime: z.number(), bootId: z.string() }),
});
export type State = z.infer<typeof State>;

export interface Places {
  readonly directory: string;
  /** Memory-backed: the writable layer, the runtime's bundle and its state. Gone with its mount. */
  readonly ram: string;
  /** The merged root filesystem. */
  readonly root: string;
}

export const sandboxesDirectory = (home: string): string => join(home, "rock", "sandboxes");

export function places(home: string, id: string): Places {
  const directory = join(sandboxesDirectory(home), id);
  return { directory, ram: join(directory, "ram"), root: join(directory, "root") };
}

/** Written before anything else of the sandbox exists, so that no crash leaves a thing without an owner. */
export function writeState(home: string, state: State): void {
  const { directory } = places(home, state.id);
  mkdirSync(directory, { mode: 0o700 });
  const path = join(directory, "state.json");
  writeFileSync(`${path}.new`, JSON.stringify(state));
  renameSync(`${path}.new`, path);
}

/** Undefined where it is missing or torn. */
export function readState(home: string, id: string): State | undefined {
  try {
    return State.parse(JSON.parse(readFileSync(join(places(home, id).directory, "state.json"), "utf8")));
  } catch {
    return undefined;
  }
}

export function listIds(home: string): string[] {
  try {
    return readdirSync(sandboxesDirectory(home));
  } catch {
    return [];
  }
}

export function removeDirectory(home: string, id: string): void {
  rmSync(places(home, id).directory, { recursive: true, force: true });
}

export type { Owner };
