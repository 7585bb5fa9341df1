import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Limits, NetworkPolicy } from "@ale/core";
import { z } from "zod";
import { removeTree } from "../host/mounts.ts";
import { type Owner, ownerName, parseOwnerName, self } from "../host/owner.ts";

/**
 * What a driver leaves on disk, so that another process can clean up after it or carry on. One directory a driver under `<home>/rock`,
 * called its space; in it one directory a sandbox, with `state.json`, and the layers and snapshots beside them under names that no sandbox
 * can have. A space belongs to the process that its name says, or is durable: then whoever holds its lock owns it.
 */

export const ShellStateRecord = z.object({
  id: z.string(),
  user: z.string().optional(),
  cwd: z.string(),
  script: z.string(),
});

const Image = z.object({
  name: z.string(),
  digest: z.string(),
  layers: z.array(z.string()).readonly(),
  config: z.object({
    env: z.record(z.string(), z.string()),
    workdir: z.string(),
    user: z.string(),
    entrypoint: z.array(z.string()).readonly(),
    command: z.array(z.string()).readonly(),
    exposedPorts: z.array(z.string()).readonly(),
  }),
  mappedTo: z.string().optional(),
});

/** What is remembered of a spec: all but the content of its files, which lies in the layers. */
const Remembered = z.object({
  id: z.string().optional(),
  image: z.string(),
  limits: Limits,
  network: NetworkPolicy,
  workdir: z.string().optional(),
  user: z.string().optional(),
  env: z.record(z.string(), z.string()).optional(),
  readOnlyPaths: z.array(z.string()).readonly().optional(),
  idleMs: z.number().optional(),
  labels: z.record(z.string(), z.string()).optional(),
});

/** A stack of layers above an image. */
export const Stack = z.object({
  image: Image,
  spec: Remembered,
  /** Ids of sealed layers, uppermost first. */
  lower: z.array(z.string()).readonly(),
});
export type Stack = z.infer<typeof Stack>;

const SandboxState = Stack.extend({
  id: z.string(),
  createdAtMs: z.number(),
  /** Id of the layer that it writes to. */
  layer: z.string(),
  /** The snapshot that it began from, or the last one taken of it. */
  snapshot: z.string().nullable(),
  /** It has been handed to whoever asked for it. One that has not is nobody's after a crash. */
  ready: z.boolean(),
  /** As its shells were when it was stopped. */
  shells: z.array(ShellStateRecord).readonly(),
});
export type SandboxState = z.infer<typeof SandboxState>;

export interface Places {
  readonly directory: string;
}

export function places(space: string, id: string): Places {
  return { directory: join(space, id) };
}

/**
 * Where a sandbox's merged root filesystem is mounted while it writes to this layer: each run has a place of its own, because the kernel
 * takes its time over the last one.
 */
export const rootOf = (space: string, id: string, layer: string): string => join(space, id, `root-${layer}`);

/** A driver's directory: everything that its sandboxes have on the host lies or is mounted below it. */
export interface Space {
  readonly directory: string;
  readonly owner: Owner;
}

const DURABLE = "durable-";

export const durableSpace = (home: string, name: string): string => join(home, "rock", `${DURABLE}${name}`);

export function createSpace(home: string, unique: string): Space {
  const owner = self();
  const directory = join(home, "rock", `${ownerName(owner)}-${unique}`);
  prepareSpace(directory);
  return { directory, owner };
}

/** Its sandboxes' roots are entered through it; what is in it cannot be listed. */
export function prepareSpace(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  chmodSync(directory, 0o711);
}

/** Where its sandboxes' toolbox is mounted. */
export const toolboxMount = (space: string): string => join(space, ".inside");

/** Those that end with a process. */
export function listSpaces(home: string): Space[] {
  return entries(join(home, "rock")).flatMap((name) => {
    const owner = parseOwnerName(name);
    return owner === undefined ? [] : [{ directory: join(home, "rock", name), owner }];
  });
}

/** Directories of those that outlive their processes. */
export function listDurableSpaces(home: string): string[] {
  return entries(join(home, "rock"))
    .filter((name) => name.startsWith(DURABLE))
    .map((name) => join(home, "rock", name));
}

/** Written before anything else of the sandbox exists. Throws an error with the code EEXIST where the id is in use. */
export function createSandboxState(space: string, state: SandboxState): void {
  const { directory } = places(space, state.id);
  mkdirSync(directory, { mode: 0o700 });
  writeSandboxState(space, state);
}

export function writeSandboxState(space: string, state: SandboxState): void {
  writeWhole(join(places(space, state.id).directory, "state.json"), state);
}

/** A reader sees the old content or the new one, never half of it. */
export function writeWhole(path: string, content: unknown): void {
  writeFileSync(`${path}.new`, JSON.stringify(content), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Undefined where it is missing, torn or of another version. */
export function readSandboxState(space: string, id: string): SandboxState | undefined {
  return readWhole(join(places(space, id).directory, "state.json"), SandboxState);
}

export function readWhole<T>(path: string, schema: z.ZodType<T>): T | undefined {
  try {
    return schema.parse(JSON.parse(readFileSync(path, "utf8")));
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
  const { directory } = places(space, id);
  try {
    unlinkSync(join(directory, "state.json"));
    rmdirSync(directory);
  } catch {
    removeTree(directory);
  }
}

export function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
