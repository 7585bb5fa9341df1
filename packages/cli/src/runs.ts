import { readdirSync, rmdirSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { AleError, EpisodeIndex, type EpisodeStore, openEpisodeStore, suggest } from "@ale/core";

/** Where recorded episodes are: $ALE_HOME/runs/<run>/episodes/<id>.jsonl (docs/reference/files.md). Reads only. */
export interface Run {
  readonly name: string;
  readonly dir: string;
  readonly store: EpisodeStore;
}

export interface EpisodeFile {
  readonly id: string;
  readonly path: string;
  /** null for a log that was named by its path. */
  readonly run: string | null;
}

/** Every run that has episodes, by name. Throws `run-unknown` when `only` is not one of them, and `run-unreadable`. */
export async function listRuns(home: string, only?: string): Promise<Run[]> {
  const root = join(home, "runs");
  const names = ((await unlessGone(root, readdir(root))) ?? []).sort();
  const runs: Run[] = [];
  for (const name of names) {
    if (only !== undefined && name !== only) continue;
    const episodes = join(root, name, "episodes");
    if (await isDirectory(episodes))
      runs.push({ name, dir: join(root, name), store: await openEpisodeStore(episodes) });
  }
  if (only !== undefined && runs.length === 0) {
    const near = suggest(only, names);
    throw new AleError("run-unknown", `there is no run ${only} with episodes in ${root}`, {
      next: near === undefined ? `it has: ${names.join(", ") || "none yet"}` : `did you mean ${near}?`,
    });
  }
  return runs;
}

/** The index beside the episodes; a copy in memory where it cannot be written. */
export const openIndex = (run: Run): Promise<EpisodeIndex> =>
  EpisodeIndex.openToRead(join(run.dir, "index.sqlite"), run.store);

/**
 * The one episode that `word` names: a whole id, an unambiguous beginning of one (with or without its `ep_`), `last`, or the path
 * of a log. Throws `episode-unknown`.
 */
export async function findEpisode(home: string, word: string, only?: string): Promise<EpisodeFile> {
  if (word.endsWith(".jsonl")) {
    const path = resolve(word);
    return { id: basename(path, ".jsonl"), path, run: null };
  }
  const all = await episodeFiles(home, only);
  if (all.length === 0)
    throw new AleError("episode-unknown", `there are no episodes in ${join(home, "runs")}`, {
      next: "./quickstart records some",
    });
  if (word === "last") return newest(all);
  const exact = all.find((episode) => episode.id === word);
  if (exact !== undefined) return exact;
  const matches = all.filter(({ id }) => id.startsWith(word) || id.replace(/^[a-z]+_/, "").startsWith(word));
  if (matches.length === 1) return matches[0]!;
  if (matches.length === 0)
    throw new AleError("episode-unknown", `no episode begins with ${word}`, {
      next: "ale episodes ls lists them",
    });
  const some = matches.slice(0, 4).map(({ id }) => id);
  throw new AleError("episode-unknown", `${matches.length} episodes begin with ${word}`, {
    next: `write more of the id: ${some.join(", ")}${matches.length > some.length ? ", …" : ""}`,
  });
}

/** All episodes of all runs (or of one), by run and then by id. */
export async function episodeFiles(home: string, only?: string): Promise<EpisodeFile[]> {
  const files: EpisodeFile[] = [];
  for (const run of await listRuns(home, only))
    for (const id of await run.store.ids()) files.push({ id, path: run.store.path(id), run: run.name });
  return files;
}

async function newest(files: readonly EpisodeFile[]): Promise<EpisodeFile> {
  const times = await Promise.all(files.map(async ({ path }) => (await stat(path)).mtimeMs));
  let best = 0;
  // Later ids win ties: logs of one batch may be sealed within the same millisecond.
  for (let i = 1; i < files.length; i++) if (times[i]! >= times[best]!) best = i;
  return files[best]!;
}

/** For a folder that a command begins to fill: directories in which it has put nothing by its end, as after a failure, go. */
export function removedIfEmpty(directory: string): Disposable {
  return { [Symbol.dispose]: () => void removeEmpty(directory) };
}

function removeEmpty(directory: string): void {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true }))
      if (entry.isDirectory()) removeEmpty(join(directory, entry.name));
    rmdirSync(directory);
  } catch {
    // It holds something, was never made, or belongs to somebody else.
  }
}

const isDirectory = async (path: string): Promise<boolean> =>
  (await unlessGone(path, stat(path)))?.isDirectory() ?? false;

/** What may not be looked at is not as good as absent: what is recorded there would be missing without a word. */
async function unlessGone<T>(path: string, found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new AleError("run-unreadable", `${path} cannot be read: ${code ?? String(cause)}`, {
      next: "its owner can make it readable for you; --run NAME looks at one run alone",
      cause,
    });
  }
}
