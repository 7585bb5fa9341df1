import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { removeTree } from "../host/mounts.ts";
import { type Owner, ownerName, parseOwnerName, self } from "../host/owner.ts";

/**
 * What a driver leaves on disk, so that another process can clean up after it. One directory a driver under `<home>/rock`, whose
 * name says which process owns it; in it one directory a sandbox, with `state.json` and all that the sandbox has on disk.
 */

const SandboxState = z.object({
  id: z.string(),
  image: z.string(),
  createdAtMs: z.number(),
  labels: z.record(z.string(), z.string()),
  owner: z.object({ pid: z.number(), startTime: z.number(), bootId: z.string() }),
});
export type SandboxState = z.infer<typeof SandboxState>;

export interface Places {
  readonly directory: string;
  /** A file system of its own, of the size of the disk limit: the writable layer, the runtime's bundle and its state. Gone with its mount. */
  readonly layer: string;
  /** The merged root filesystem. */
  readonly root: string;
}

export function places(space: string, id: string): Places {
  const directory = join(space, id);
  return { directory, layer: join(directory, "layer"), root: join(directory, "root") };
}

/** A driver's directory: everything that its sandboxes have on the host lies or is mounted below it. */
export interface Space {
  readonly directory: string;
  readonly owner: Owner;
}

export function createSpace(home: string, unique: string): Space {
  const owner = self();
  const directory = join(home, "rock", `${ownerName(owner)}-${unique}`);
  // Its sandboxes' roots are entered through it; what is in it cannot be listed.
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  chmodSync(directory, 0o711);
  return { directory, owner };
}

export function listSpaces(home: string): Space[] {
  return entries(join(home, "rock")).flatMap((name) => {
    const owner = parseOwnerName(name);
    return owner === undefined ? [] : [{ directory: join(home, "rock", name), owner }];
  });
}

/** Written before anything else of the sandbox exists. */
export function writeSandboxState(space: string, state: SandboxState): void {
  const { directory } = places(space, state.id);
  mkdirSync(directory, { mode: 0o700 });
  writeFileSync(join(directory, "state.json"), JSON.stringify(state));
}

/** Undefined where it is missing or torn. */
export function readSandboxState(space: string, id: string): SandboxState | undefined {
  try {
    const text = readFileSync(join(places(space, id).directory, "state.json"), "utf8");
    return SandboxState.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** What may be called a sandbox, and therefore what in a space is one. */
export const isSandboxId = (name: string): boolean => /^[a-z0-9][a-z0-9-]{0,62}$/.test(name);

export function listSandboxes(space: string): string[] {
  return entries(space).filter(isSandboxId);
}

/** The usual remains go one by one, which costs little; whatever else there may be goes the long way. */
export function removeSandboxDirectory(space: string, id: string): void {
  const { directory, layer, root } = places(space, id);
  try {
    unlinkSync(join(directory, "state.json"));
    for (const empty of [layer, root, directory]) rmdirSync(empty);
  } catch {
    removeTree(directory);
  }
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
