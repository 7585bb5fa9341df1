import type { Act } from "./act.ts";
import { ActIndex } from "./act-index.ts";
import type { OutsideAlarm } from "./alarm.ts";
import { type Anchor, type ClockStretch, type Offset, sensorClock } from "./clock.ts";
import { explains, explanationsOf, gapOf, MAX_SKEW_MS } from "./explanation.ts";
import { type Unmatched, whyUnmatched } from "./unmatched.ts";

/**
 * Where an alarm from outside lands: on the act of a sandbox that caused it, with how sure that is and which others it could have been. Clocks may
 * disagree; what each sensor's said is estimated from its alarms. Pure.
 */

export interface Candidate<A extends Act = Act> {
  readonly act: A;
  /** Probability that this act, and no other and nothing unseen, caused the alarm. */
  readonly confidence: number;
  /** Alarm minus act, after the clocks were set by each other; milliseconds. */
  readonly residualMs: number;
}

export interface Landing<A extends Act = Act> {
  readonly alarm: OutsideAlarm;
  /** The likeliest first; empty where nothing fits. */
  readonly candidates: readonly Candidate<A>[];
  /** Probability that it was none of them. */
  readonly unexplained: number;
  /** What its clock was taken to differ by, milliseconds. */
  readonly skewMs: number;
  /** Where it was probably none of them: why. */
  readonly why?: Unmatched;
}

export interface LandingOptions {
  /** Largest difference of the clocks that is believed. Default: one hour. */
  readonly maxSkewMs?: number;
  /** Given where the difference is known, e.g. 0 for one host. */
  readonly skew?: { readonly offsetMs: number; readonly spreadMs: number };
  /** What is known of the clocks from before. */
  readonly anchors?: readonly Anchor[];
}

export interface Landed<A extends Act> {
  /** Those that alarms agree on, by sensor and time. */
  readonly clocks: readonly ClockStretch[];
  /** In the order of the alarms. */
  readonly landings: readonly Landing<A>[];
}

/** A sensor with fewer alarms is taken together with others of its kind. */
const OWN_CLOCK = 4;
/** Around an alarm, to see how much goes on that looks like it. */
const AROUND_MS = 300_000;

export function landAlarms<A extends Act>(
  alarms: readonly OutsideAlarm[],
  acts: readonly A[],
  options: LandingOptions = {},
): Landed<A> {
  const index = new ActIndex(acts);
  const { maxSkewMs = MAX_SKEW_MS, skew } = options;
  if (skew !== undefined) {
    const offsets = [{ ...skew, weight: 1 }];
    return { clocks: [], landings: alarms.map((alarm) => land(alarm, index, offsets, maxSkewMs)) };
  }
  const clocks: ClockStretch[] = [];
  const landings = new Array<Landing<A>>(alarms.length);
  for (const group of groupsOf(alarms)) {
    const { source, sensor, sensors, places } = group;
    const own = places.map((place) => alarms[place]!);
    const anchors = (options.anchors ?? []).filter(
      (anchor) => sensors === 1 && anchor.sensor === sensor && anchor.source === source,
    );
    const clock = sensorClock(own, index, { sensor, sensors, anchors, maxSkewMs });
    clocks.push(...clock.stretches);
    for (const [i, place] of places.entries())
      landings[place] = land(own[i]!, index, clock.offsetsAt(i), maxSkewMs);
  }
  return { clocks, landings };
}

interface SensorGroup {
  readonly source: OutsideAlarm["source"];
  readonly sensor: string | null;
  readonly sensors: number;
  readonly places: readonly number[];
}

function groupsOf(alarms: readonly OutsideAlarm[]): SensorGroup[] {
  const bySensor = new Map<string, number[]>();
  for (const [place, { source, sensor }] of alarms.entries()) {
    const key = `${source} ${sensor ?? ""}`;
    const known = bySensor.get(key);
    if (known === undefined) bySensor.set(key, [place]);
    else known.push(place);
  }
  const groups: SensorGroup[] = [];
  const small = new Map<OutsideAlarm["source"], number[][]>();
  for (const places of bySensor.values()) {
    const { source, sensor } = alarms[places[0]!]!;
    if (places.length >= OWN_CLOCK) groups.push({ source, sensor, sensors: 1, places });
    else small.set(source, [...(small.get(source) ?? []), places]);
  }
  for (const [source, lists] of small) {
    const places = lists.flat().sort((a, b) => a - b);
    const sensor = lists.length === 1 ? alarms[places[0]!]!.sensor : null;
    groups.push({ source, sensor, sensors: lists.length, places });
  }
  return groups;
}

function land<A extends Act>(
  alarm: OutsideAlarm,
  index: ActIndex<A>,
  offsets: readonly Offset[],
  maxSkewMs: number,
): Landing<A> {
  const found = new Map<A, { score: number; residualMs: number; most: number }>();
  for (const { offsetMs, spreadMs, weight } of offsets) {
    const at = alarm.at - offsetMs;
    const end = at + alarm.durationMs;
    const among = index.count(alarm, at - AROUND_MS, end + AROUND_MS);
    if (among === 0) continue;
    const acts = index.near(alarm, at - 6 * spreadMs, end + 6 * spreadMs);
    for (const one of explanationsOf(alarm, acts, among, 2 * AROUND_MS)) {
      const score = weight * explains(one, offsetMs, spreadMs);
      if (score === 0) continue;
      const known = found.get(one.act) ?? { score: 0, residualMs: 0, most: 0 };
      const gap = gapOf(one, offsetMs);
      const residualMs =
        score <= known.most
          ? known.residualMs
          : gap === 0 && one.toMs > one.fromMs
            ? 0
            : one.beginMs - offsetMs;
      found.set(one.act, { score: known.score + score, residualMs, most: Math.max(known.most, score) });
    }
  }
  const total = [...found.values()].reduce((sum, { score }) => sum + score, 1);
  const candidates = [...found]
    .map(([act, { score, residualMs }]): Candidate<A> => ({ act, residualMs, confidence: score / total }))
    .filter(({ confidence }) => confidence >= 0.001)
    .sort((a, b) => b.confidence - a.confidence || Math.abs(a.residualMs) - Math.abs(b.residualMs));
  const skewMs = offsets.reduce((most, one) => (one.weight > most.weight ? one : most)).offsetMs;
  const unexplained = 1 / total;
  const why = unexplained < 0.5 ? {} : { why: whyUnmatched(alarm, index, skewMs, maxSkewMs) };
  return { alarm, candidates, unexplained, skewMs, ...why };
}
