import type { Act } from "./act.ts";
import type { ActIndex } from "./act-index.ts";
import type { OutsideAlarm } from "./alarm.ts";
import { type ClockFit, fitClock, type Inlier } from "./clock-fit.ts";
import { explains, explanationsAnywhere, FLOOR_MS, MAX_SKEW_MS, type TimeEvidence } from "./explanation.ts";
import { BIN_MS, COARSE_MS, offsetPath, type PathStep } from "./offset-path.ts";

/**
 * What a sensor's clock said against ours, over a file: a path of offsets that mostly stays where it is, may drift, and seldom jumps. What fits
 * many alarms is believed far from zero, what fits a single one only near it. Pure.
 */

/** A stretch of a sensor's alarms through which its clock ran evenly. */
export interface ClockStretch {
  /** Null: nobody's name, or several sensors that have too few alarms each. */
  readonly sensor: string | null;
  /** Sensors that were taken together. */
  readonly sensors: number;
  /** First and last alarm that it holds for, on their clock. */
  readonly from: number;
  readonly to: number;
  /** Their clock minus ours in the middle, milliseconds. */
  readonly offsetMs: number;
  /** How much faster theirs runs, parts per million; 0 where that cannot be told. */
  readonly driftPpm: number;
  /** How far alarms scatter around it; the floor is what their timestamps resolve. */
  readonly spreadMs: number;
  /** Alarms that agree with it. */
  readonly support: number;
}

/** What the clocks may have differed by at an alarm. */
export interface Offset {
  readonly offsetMs: number;
  readonly spreadMs: number;
  /** The weights of one alarm's offsets add up to 1; what the alarm itself says is left out. */
  readonly weight: number;
}

/** What is known from before: an alarm of this sensor that was matched. */
export interface Anchor {
  readonly source: OutsideAlarm["source"];
  readonly sensor: string | null;
  readonly at: number;
  readonly offsetMs: number;
}

export interface SensorClock {
  readonly stretches: readonly ClockStretch[];
  /** Of the alarm at this place of the list that was given. */
  offsetsAt(place: number): readonly Offset[];
}

/** Alarms that are asked about the clock; the others are taken to be as the nearest of these. */
const MOST_ASKED = 4_096;
/** An alarm that more acts than this could explain is asked only where few others are. */
const MOST_EXPLANATIONS = 128;
const FEW = 8;
const COMMON_ASKED = 128;
/** Alarms of one connection tell the same. */
const SAME_MS = 2_000;

export const NO_OFFSET: Offset = { offsetMs: 0, spreadMs: FLOOR_MS, weight: 1 };

/** `alarms` of one sensor, in the order in which it wrote them. */
export function sensorClock<A extends Act>(
  alarms: readonly OutsideAlarm[],
  index: ActIndex<A>,
  options: {
    readonly sensor: string | null;
    readonly sensors: number;
    readonly anchors?: readonly Anchor[];
    readonly maxSkewMs?: number;
  },
): SensorClock {
  const { sensor, sensors, anchors = [], maxSkewMs = MAX_SKEW_MS } = options;
  const asked = askedOf(alarms, index, maxSkewMs);
  const steps = [...anchors.slice(-MOST_ANCHORS).map(anchorStep), ...asked];
  const path = offsetPath(steps, maxSkewMs);
  const fitted = stretchesOf(steps, path);
  const first = steps.length - asked.length;
  const places = asked.map(({ place }) => place);
  return {
    stretches: fitted
      .filter(({ support }) => support > 0)
      .map(({ from, to, support, fit }) => ({
        sensor,
        sensors,
        from,
        to,
        offsetMs: fit.offsetAt((from + to) / 2),
        driftPpm: fit.driftPpm,
        spreadMs: fit.spreadMs,
        support,
      })),
    offsetsAt(place) {
      if (steps.length === 0) return [NO_OFFSET];
      // Before the first that was asked: what is known from before, else that one.
      const step = Math.min(first + nearestOf(places, place), steps.length - 1);
      const stretch = fitted.find(({ end }) => step < end)!;
      return offsetsOf(path[step]!, steps[step]!.place === place, stretch, alarms[place]!.at);
    },
  };
}

interface Step {
  /** In the list of alarms; -1 for what is known from before. */
  readonly place: number;
  readonly at: number;
  readonly evidence: readonly TimeEvidence[];
}

/** Of what is known from before, the latest. */
const MOST_ANCHORS = 256;
const anchorStep = ({ at, offsetMs }: Anchor): Step => ({
  place: -1,
  at,
  evidence: [{ beginMs: offsetMs, fromMs: offsetMs, toMs: offsetMs, weight: 100 * FLOOR_MS }],
});

/** The alarms that say something of the clock, in order. */
function askedOf<A extends Act>(
  alarms: readonly OutsideAlarm[],
  index: ActIndex<A>,
  maxSkewMs: number,
): Step[] {
  const last = new Map<string, number>();
  const fresh = alarms.flatMap(({ at, toIp, toPort, fromPort, host, pid, command }, place) => {
    const key = [toIp, toPort, fromPort, host, pid, command].join(" ");
    const again = Math.abs(at - (last.get(key) ?? Number.NEGATIVE_INFINITY)) < SAME_MS;
    last.set(key, at);
    return again ? [] : [place];
  });
  const ask = (places: readonly number[], most: number): Step[] =>
    places.flatMap((place): Step[] => {
      const evidence = explanationsAnywhere(alarms[place]!, index, maxSkewMs, most);
      return evidence === undefined || evidence.length === 0
        ? []
        : [{ place, at: alarms[place]!.at, evidence }];
    });
  const telling = ask(thinned(fresh, MOST_ASKED), MOST_EXPLANATIONS);
  if (telling.length >= FEW || telling.length === fresh.length) return telling;
  const others = ask(thinned(fresh, COMMON_ASKED), Number.POSITIVE_INFINITY);
  const known = new Set(telling.map(({ place }) => place));
  return [...telling, ...others.filter(({ place }) => !known.has(place))].sort((a, b) => a.place - b.place);
}

/** At most so many, evenly. */
function thinned<T>(values: readonly T[], most: number): readonly T[] {
  if (values.length <= most) return values;
  return Array.from({ length: most }, (_, i) => values[Math.floor((i * values.length) / most)]!);
}

/** Index of the value nearest to `place`; ascending. */
function nearestOf(places: readonly number[], place: number): number {
  let [low, high] = [0, places.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]! < place) low = middle + 1;
    else high = middle;
  }
  return low > 0 && place - places[low - 1]! < places[low]! - place ? low - 1 : Math.max(0, low);
}

interface Stretch {
  /** Step after its last. */
  readonly end: number;
  readonly from: number;
  readonly to: number;
  readonly support: number;
  /** What it was fitted to: alarms that agree, and what is known from before. */
  readonly inliers: number;
  readonly fit: ClockFit;
}

/** Drift that moves the likeliest offset on between alarms that are far apart. */
const BELIEVED_DRIFT = 300e-6;

function stretchesOf(steps: readonly Step[], path: readonly PathStep[]): Stretch[] {
  const stretches: Stretch[] = [];
  let begin = 0;
  for (let i = 1; i <= steps.length; i++) {
    if (i < steps.length) {
      const moved = Math.abs(path[i]!.best - path[i - 1]!.best);
      const drift = (BELIEVED_DRIFT * Math.abs(steps[i]!.at - steps[i - 1]!.at)) / BIN_MS;
      if (moved <= 1 + drift) continue;
    }
    stretches.push(stretchOf(steps.slice(begin, i), path.slice(begin, i), i));
    begin = i;
  }
  return stretches;
}

function stretchOf(steps: readonly Step[], path: readonly PathStep[], end: number): Stretch {
  const inliers = steps.flatMap((step, i): (Inlier & { readonly isAlarm: boolean })[] => {
    const offsetMs = offsetNear(step.evidence, path[i]!.best * BIN_MS);
    return offsetMs === undefined ? [] : [{ at: step.at, offsetMs, isAlarm: step.place >= 0 }];
  });
  const centre = path[0]!.best * BIN_MS;
  const times = steps.filter(({ place }) => place >= 0).map(({ at }) => at);
  return {
    end,
    from: times.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
    to: times.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
    support: inliers.filter(({ isAlarm }) => isAlarm).length,
    inliers: inliers.length,
    fit:
      inliers.length === 0
        ? { driftPpm: 0, spreadMs: COARSE_MS, offsetAt: () => centre }
        : fitClock(inliers, FLOOR_MS),
  };
}

/** The offset at which its likeliest explanation holds; undefined where none is likely. */
function offsetNear(evidence: readonly TimeEvidence[], centre: number): number | undefined {
  let best: TimeEvidence | undefined;
  let most = 2;
  for (const one of evidence) {
    const score = explains(one, centre, COARSE_MS);
    if (score > most) [best, most] = [one, score];
  }
  if (best === undefined) return undefined;
  const { beginMs, fromMs, toMs } = best;
  return Math.abs(beginMs - centre) <= 2 * BIN_MS ? beginMs : Math.min(Math.max(centre, fromMs), toMs);
}

/** Below this an offset is not looked at. */
const UNLIKELY = 1e-4;

function offsetsOf(
  { bins, others, all, best }: PathStep,
  isOwn: boolean,
  stretch: Stretch,
  at: number,
): Offset[] {
  const weights = isOwn ? others : all;
  const { spreadMs, offsetAt } = stretch.fit;
  // What was fitted to this alarm alone is no witness for it.
  const isFitted = !isOwn || stretch.inliers > 1;
  const isHere = (bin: number): boolean => isFitted && Math.abs(bin - best) <= 1;
  const here = bins.reduce((sum, bin, state) => sum + (isHere(bin) ? weights[state]! : 0), 0);
  const elsewhere = bins.flatMap((bin, state): Offset[] =>
    isHere(bin) || weights[state]! < UNLIKELY
      ? []
      : [{ offsetMs: bin * BIN_MS, spreadMs: COARSE_MS, weight: weights[state]! }],
  );
  return here === 0 ? elsewhere : [{ offsetMs: offsetAt(at), spreadMs, weight: here }, ...elsewhere];
}
