import { existsSync, lstatSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { lockRun } from "./run-lock.ts";
import { loadRunState, type RunState } from "./run-state.ts";

/**
 * Checkpoints that nothing will ever load: a sitting that was killed between saving weights and committing them leaves some, and the next
 * sitting saves under a name of its own. What the run's state names is kept, and so is everything of a run that is being worked on.
 */

export interface Leftover {
  /** A directory below the run's own. */
  readonly path: string;
  readonly bytes: number;
}

/** What could be removed. Throws an AleError `run-busy` or `run-state-damaged`; a directory that is no run has nothing. */
export function leftoversOf(directory: string): readonly Leftover[] {
  if (!existsSync(join(directory, "state.json"))) return [];
  using _lock = lockRun(directory);
  return find(directory);
}

/** Removes them, and says what that was. Throws as `leftoversOf`. */
export function pruneRun(directory: string): readonly Leftover[] {
  if (!existsSync(join(directory, "state.json"))) return [];
  using _lock = lockRun(directory);
  const leftovers = find(directory);
  for (const { path } of leftovers) rmSync(path, { recursive: true, force: true });
  return leftovers;
}

function find(directory: string): Leftover[] {
  const state = loadRunState(directory);
  if (state === null) return [];
  const kept = keptBy(state);
  const unfinished = join(directory, "model.new");
  const paths = [...checkpointsIn(directory), ...(existsSync(unfinished) ? [unfinished] : [])];
  return paths.filter((path) => !kept.has(nameOf(path))).map((path) => ({ path, bytes: bytesOf(path) }));
}

const keptBy = (state: RunState): ReadonlySet<string> =>
  new Set([...state.kept, state.checkpoint ?? ""].map(nameOf));

/** As the engine places them: tinker://RUN/KIND/NAME is checkpoints/RUN/KIND/NAME, wherever the home has been moved since. */
const nameOf = (path: string): string => path.split("/").slice(-3).join("/");

function checkpointsIn(directory: string): string[] {
  const below = (paths: readonly string[]): string[] =>
    paths.flatMap((path) => directoriesIn(path).map((name) => join(path, name)));
  return below(below(below([join(directory, "checkpoints")])));
}

function directoriesIn(path: string): string[] {
  if (!existsSync(path)) return [];
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [entry.name] : [],
  );
}

const bytesOf = (path: string): number =>
  readdirSync(path, { recursive: true, encoding: "utf8" }).reduce(
    (sum, name) => sum + lstatSync(join(path, name)).size,
    0,
  );
