import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { type EpisodeLog, type KnownLog, notAsRead } from "@ale/core";
import { loadRunState } from "@ale/roll";
import { type EpisodeFile, listRuns, openIndex } from "./runs.ts";

/**
 * What a run's state says of its episodes. A hash chain proves that no line was changed, not that none was cut off at the end and
 * not that the log still exists; the state names every episode that was learnt from (by its last hash) or evaluated, and does.
 */

export interface Witness {
  readonly run: string;
  readonly episode: string;
  readonly path: string;
  /** Last hash of the sealed log, where the state names it. */
  readonly head: string | null;
}

/** By path of the log. Runs without a state (single episodes) have no witness. */
export async function witnessesOf(home: string, only?: string): Promise<ReadonlyMap<string, Witness>> {
  const witnesses = new Map<string, Witness>();
  for (const run of await listRuns(home, only)) {
    const state = loadRunState(run.dir);
    if (state === null) continue;
    const add = (episode: string, head: string | null): void => {
      const path = run.store.path(episode);
      if (head !== null || !witnesses.has(path)) witnesses.set(path, { run: run.name, episode, path, head });
    };
    for (const evaluation of state.evaluations) for (const id of evaluation.episodes) add(id, null);
    for (const round of state.rounds) for (const { episode, head } of round.episodes) add(episode, head);
  }
  return witnesses;
}

export const isGone = (witness: Witness): boolean => !existsSync(witness.path);

/** Why the log is not the one that the run used; null when it is, as far as the state can tell. */
export function contradiction(
  witness: Witness | undefined,
  log: { readonly sealed: boolean; readonly head: string },
): string | null {
  if (witness === undefined) return null;
  if (!log.sealed) return `the run used it sealed, and its seal is gone: lines were cut off at the end`;
  if (witness.head !== null && witness.head !== log.head)
    return `its last hash is ${log.head.slice(0, 12)}…, the run learnt from ${witness.head.slice(0, 12)}…`;
  return null;
}

/** What is known of the logs of a run from elsewhere: from its state, and from the index, which has read them before. */
export interface Knowledge {
  readonly run: string;
  witness(path: string): Witness | undefined;
  /** Why this is not the log that the run used, or that was read before; null when it is, as far as anybody knows. */
  against(log: EpisodeLog): string | null;
}

/** Of the run in which the log at `path` is; null where it is in none. */
export async function knowledgeOf(home: string, path: string): Promise<Knowledge | null> {
  const run = (await listRuns(home)).find(({ store }) => store.dir === dirname(path));
  if (run === undefined) return null;
  const witnesses = await witnessesOf(home, run.name);
  using index = await openIndex(run);
  const known = new Map<string, KnownLog>(index.query().map((one) => [one.path, one]));
  return {
    run: run.name,
    witness: (path) => witnesses.get(path),
    against: (log) => {
      const before = known.get(log.path);
      return (
        contradiction(witnesses.get(log.path), log) ?? (before === undefined ? null : notAsRead(log, before))
      );
    },
  };
}

/** Logs that a run used and that are no longer there. */
export function goneEpisodes(witnesses: ReadonlyMap<string, Witness>): (EpisodeFile & { run: string })[] {
  return [...witnesses.values()].filter(isGone).map(({ run, episode, path }) => ({ id: episode, path, run }));
}
