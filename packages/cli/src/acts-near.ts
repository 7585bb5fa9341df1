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

/** Of the run `only`, or of all. */
export async function actsNear(
  alarms: readonly Pick<OutsideAlarm, "at" | "durationMs">[],
  only: string | undefined,
  io: Io,
  signal: AbortSignal,
): Promise<NearActs> {
  const acts: RecordedAct[] = [];
  const unread: NearActs["unread"][number][] = [];
  let episodes = 0;
  const times = Float64Array.from(alarms, ({ at }) => at).sort();
  const longestMs = alarms.reduce((longest, { durationMs }) => Math.max(longest, durationMs), 0);
  for (const run of await listRuns(io.home, only)) {
    using index = await openIndex(run);
    unread.push(...index.refreshed.skipped.map(({ id, why }) => ({ episode: `${run.name}/${id}`, why })));
    for (const summary of index.query().filter((one) => isNear(one, times, longestMs))) {
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

/** `times` ascending. One that is not sealed may still be going on. */
function isNear(
  { startedAt, wallMs, sealed }: EpisodeSummary,
  times: Float64Array,
  longestMs: number,
): boolean {
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
}
