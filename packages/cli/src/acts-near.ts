import { stat } from "node:fs/promises";
import { AleError, type EpisodeSummary, readEpisodeLog } from "@ale/core";
import { actsOf, MAX_SKEW_MS, type OutsideAlarm, type RecordedAct } from "@ale/guard";
import type { Io } from "./io.ts";
import { listRuns, openIndex } from "./runs.ts";

/** What recorded episodes did around the time of alarms. */
export interface NearActs {
  readonly acts: readonly RecordedAct[];
  /** Episodes that ran within reach of an alarm's time. */
  readonly episodes: number;
  readonly unread: readonly { readonly episode: string; readonly why: string }[];
}

/** Whether an episode within reach of an alarm has been recorded, or gone on, since a time. */
export async function isRecordedSince(
  alarms: readonly Times[],
  sinceMs: number,
  home: string,
): Promise<boolean> {
  const near = nearnessTo(alarms);
  for (const run of await listRuns(home)) {
    using index = await openIndex(run);
    for (const summary of index.query().filter(near)) {
      // When it came here, whatever the time is that it is stamped with.
      const { ctimeMs } = await stat(summary.path);
      if (ctimeMs >= sinceMs) return true;
    }
  }
  return false;
}

type Times = Pick<OutsideAlarm, "at" | "durationMs">;

/** Of the run `only`, or of all. */
export async function actsNear(
  alarms: readonly Times[],
  only: string | undefined,
  io: Io,
  signal: AbortSignal,
): Promise<NearActs> {
  const acts: RecordedAct[] = [];
  const unread: NearActs["unread"][number][] = [];
  let episodes = 0;
  const near = nearnessTo(alarms);
  for (const run of await listRuns(io.home, only)) {
    using index = await openIndex(run);
    unread.push(...index.refreshed.skipped.map(({ id, why }) => ({ episode: `${run.name}/${id}`, why })));
    for (const summary of index.query().filter(near)) {
      signal.throwIfAborted();
      io.progress.status(`comparing with ${summary.id}`);
      try {
        const { entries } = await readEpisodeLog(summary.path);
        for (const act of actsOf(summary.id, entries)) acts.push(act);
        episodes++;
      } catch (error) {
        if (!(error instanceof AleError)) throw error;
        unread.push({ episode: `${run.name}/${summary.id}`, why: error.message });
      }
    }
  }
  return { acts, episodes, unread };
}

/** Of an episode: whether it ran within reach of an alarm. One that is not sealed may still be going on. */
function nearnessTo(alarms: readonly Times[]): (episode: EpisodeSummary) => boolean {
  const times = Float64Array.from(alarms, ({ at }) => at).sort();
  const longestMs = alarms.reduce((longest, { durationMs }) => Math.max(longest, durationMs), 0);
  return ({ startedAt, wallMs, sealed }) => {
    const start = Date.parse(startedAt);
    const from = start - MAX_SKEW_MS - longestMs;
    const to = sealed ? start + wallMs + MAX_SKEW_MS : Number.POSITIVE_INFINITY;
    let [low, high] = [0, times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle]! < from) low = middle + 1;
      else high = middle;
    }
    return low < times.length && times[low]! <= to;
  };
}
