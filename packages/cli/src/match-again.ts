import {
  alarmLineOf,
  anchorsOf,
  isSameLanding,
  landAlarms,
  type OutsideAlarmLine,
  type OutsideMatch,
} from "@ale/guard";
import { actsNear, isRecordedSince, type NearActs } from "./acts-near.ts";
import type { AlarmEntry, AlarmLog } from "./alarms.ts";
import type { Io } from "./io.ts";

/** Alarms that came before the episode that caused them was recorded: compared again with what there is now. */
export interface MatchedAgain {
  /** Alarms that were not placed; null where nothing was recorded since that could be theirs, so that none was compared. */
  readonly pending: number | null;
  /** What is to be added to the log: nothing where no alarm landed elsewhere than before. */
  readonly entries: readonly AlarmEntry[];
  readonly lines: readonly OutsideAlarmLine[];
  readonly episodes: number;
  readonly unread: NearActs["unread"];
}

/** A log names the first so many stretches of clocks. */
export const KEPT_CLOCKS = 100;

/** Comparing takes time, and what was recorded meanwhile may not have been seen. */
const COMPARING_MS = 600_000;

/**
 * Those that are not matched, with all runs, where something was recorded since they were compared; `always`: in any case.
 * Writes nothing.
 */
export async function matchAgain(
  log: AlarmLog,
  io: Io,
  signal: AbortSignal,
  always = false,
): Promise<MatchedAgain> {
  const pending = log.alarms.filter(({ line }) => line.status !== "matched");
  const alarms = pending.map(({ line }) => line.alarm);
  const none = { entries: [], lines: [], episodes: 0, unread: [] };
  if (pending.length === 0 || log.comparedAt === null) return { pending: 0, ...none };
  if (!always && !(await isRecordedSince(alarms, log.comparedAt - COMPARING_MS, io.home)))
    return { pending: null, ...none };
  const near = await actsNear(alarms, undefined, io, signal);
  const { clocks, landings } = landAlarms(alarms, near.acts, { anchors: anchorsOf(log.alarms) });
  const lines = landings.flatMap((landing, i): OutsideAlarmLine[] => {
    const { seq, line: before } = pending[i]!;
    const line = alarmLineOf(landing);
    return isSameLanding(before, line) ? [] : [{ ...line, supersedes: seq }];
  });
  const event: OutsideMatch = {
    type: "outside.match",
    pending: pending.length,
    alarms: lines.length,
    episodes: near.episodes,
    clocks: clocks.slice(0, KEPT_CLOCKS),
  };
  const entries = lines.length === 0 ? [] : [{ event, lines }];
  return { pending: pending.length, entries, lines, episodes: near.episodes, unread: near.unread };
}
