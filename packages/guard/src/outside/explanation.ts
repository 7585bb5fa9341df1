import type { Act } from "./act.ts";
import type { ActIndex } from "./act-index.ts";
import type { OutsideAlarm } from "./alarm.ts";
import { likenessOf, MOST_ALIKE } from "./likeness.ts";

/** What an act says about when its alarm must have been raised. Pure. */

/** The most that clocks are believed to differ. */
export const MAX_SKEW_MS = 3_600_000;
/** Cloud flow logs are stamped by the second. */
export const FLOOR_MS = 1_000;
/** That an alarm which looks like a recorded act is of one, against it being of something that was not recorded. */
const ODDS = 1;
/** Alarms about what goes on are mostly raised when it begins. */
const AT_BEGIN = 0.7;

/** Differences of clocks at which something explains an alarm. */
export interface TimeEvidence {
  /** Where both begin at the same time; milliseconds. */
  readonly beginMs: number;
  /** Where both go on at some same time. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Against other acts and against none, for the density of its time. */
  readonly weight: number;
}

export interface Explanation<A extends Act> extends TimeEvidence {
  readonly act: A;
}

/**
 * How acts could explain an alarm; `among` is how many could in the time that `windowMs` is long, so that what happens all the time
 * explains little.
 */
export function explanationsOf<A extends Act>(
  alarm: OutsideAlarm,
  acts: readonly A[],
  among: number,
  windowMs: number,
): Explanation<A>[] {
  const alike = acts.flatMap((act) => {
    const likeness = likenessOf(alarm, act);
    return likeness === undefined ? [] : [{ act, ...likeness }];
  });
  const best = alike.reduce((most, { common }) => Math.max(most, common), 0);
  // A port alone is no strong reason.
  const odds = ODDS * Math.sqrt(best / MOST_ALIKE);
  return alike.map(({ act, common, own }) => ({
    act,
    beginMs: alarm.at - act.at,
    fromMs: alarm.at - (act.at + act.durationMs),
    toMs: alarm.at + alarm.durationMs - act.at,
    weight: (odds * (common / best) * own * windowMs) / Math.max(1, among),
  }));
}

/** How well an act explains an alarm where the clocks differ by so much, against that nothing does. */
export function explains(one: TimeEvidence, offsetMs: number, spreadMs: number): number {
  const gap = gapOf(one, offsetMs);
  if (gap > 6 * spreadMs) return 0;
  const begin = AT_BEGIN * bell((one.beginMs - offsetMs) / spreadMs) + (1 - AT_BEGIN) * bell(gap / spreadMs);
  return (one.weight * begin) / (spreadMs * Math.sqrt(2 * Math.PI));
}

const bell = (deviations: number): number => Math.exp(-0.5 * deviations ** 2);

/** How far from each other they would be; 0 where they overlap. */
export const gapOf = ({ fromMs, toMs }: TimeEvidence, offsetMs: number): number =>
  Math.max(0, fromMs - offsetMs, offsetMs - toMs);

/** Ways to explain an alarm within an hour; undefined where there are more than `most`. */
export function explanationsAnywhere<A extends Act>(
  alarm: OutsideAlarm,
  index: ActIndex<A>,
  maxSkewMs: number,
  most: number,
): Explanation<A>[] | undefined {
  const [from, to] = [alarm.at - maxSkewMs, alarm.at + alarm.durationMs + maxSkewMs];
  const among = index.count(alarm, from, to);
  if (among > most) return undefined;
  return among === 0 ? [] : explanationsOf(alarm, index.near(alarm, from, to), among, 2 * maxSkewMs);
}
