import type { Task } from "@ale/bench";
import type { Trajectory } from "@ale/core";
import { type FilterSettings, rejectionOf } from "@ale/data";
import type { EpisodeDeps, FinishedEpisode } from "./episode.ts";
import { type Actor, runEpisode } from "./episode.ts";
import { semaphore } from "./semaphore.ts";
import type { Watch } from "./watch.ts";

/**
 * Rolls out groups: several episodes of each of several tasks, all in flight at once up to a bound. An episode that the filter
 * refuses is replaced at once by a new attempt from the same initial state with the current policy, so that batches stay full
 * (ROME report §3.2.4.1, on-the-fly resampling).
 */

export interface GroupRequest {
  readonly task: Task;
  /** Unique within the run, e.g. "rl2/r0007/g03". */
  readonly group: string;
  /** Accepted episodes of this group that an interrupted sitting already recorded. */
  readonly finished: readonly FinishedEpisode[];
}

export interface RolloutRequest {
  readonly groups: readonly GroupRequest[];
  readonly episodesPerGroup: number;
  readonly run: string;
  readonly purpose: "train" | "eval" | "demo";
  /** The actor of one episode; called once for each attempt. */
  readonly actor: (group: string, member: number, attempt: number) => Actor;
  readonly concurrency: number;
  readonly maxRerolls: number;
  readonly filter: FilterSettings;
  readonly watch?: Watch;
  readonly onEpisode?: (episode: FinishedEpisode) => void;
}

export interface RolloutResult {
  /** Per group, in the order of the request. Slots whose attempts were all refused are missing. */
  readonly groups: readonly (readonly FinishedEpisode[])[];
  /** Refused attempts by reason. */
  readonly rejected: Readonly<Record<string, number>>;
  readonly rerolled: number;
}

export async function rolloutGroups(
  deps: EpisodeDeps,
  request: RolloutRequest,
  signal: AbortSignal,
): Promise<RolloutResult> {
  const places = semaphore(request.concurrency);
  const rejected: Record<string, number> = {};
  let rerolled = 0;
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);

  const slot = async (group: GroupRequest, member: number): Promise<FinishedEpisode | null> => {
    for (let attempt = 0; attempt <= request.maxRerolls; attempt++) {
      const episode = await places.run(() =>
        runEpisode(
          deps,
          {
            task: group.task,
            purpose: request.purpose,
            run: request.run,
            group: group.group,
            actor: request.actor(group.group, member, attempt),
            ...(request.watch === undefined ? {} : { watch: request.watch }),
          },
          either,
        ),
      );
      const rejection = rejectionOf(episode.trajectory, request.filter);
      if (rejection === null) {
        request.onEpisode?.(episode);
        return episode;
      }
      rejected[rejection.reason] = (rejected[rejection.reason] ?? 0) + 1;
      if (attempt < request.maxRerolls) rerolled++;
    }
    return null;
  };

  const all = request.groups.map(async (group) => {
    const missing = Math.max(0, request.episodesPerGroup - group.finished.length);
    const fresh = await Promise.all(
      Array.from({ length: missing }, (_, i) => slot(group, group.finished.length + i)),
    );
    return [
      ...group.finished.slice(0, request.episodesPerGroup),
      ...fresh.filter((episode) => episode !== null),
    ];
  });
  try {
    return { groups: await Promise.all(all), rejected, rerolled };
  } catch (cause) {
    // One fatal failure ends the rest, and every sandbox is gone before the caller hears of it.
    stop.abort(cause);
    await Promise.allSettled(all);
    throw cause;
  }
}

export const trajectoriesOf = (result: RolloutResult): Trajectory[] =>
  result.groups.flatMap((group) => group.map((episode) => episode.trajectory));
