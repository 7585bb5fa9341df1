import { explains, type TimeEvidence } from "./explanation.ts";

/**
 * Which differences of clocks fit a sequence of alarms, each of which could be of several acts or of none: a hidden Markov chain over offsets,
 * solved forwards and backwards. Offsets near zero are likelier than far ones, staying is likelier than drifting, drifting than jumping. Pure.
 */

export const BIN_MS = 2_000;
/** Bins are wide; so is what falls in them. */
export const COARSE_MS = 1_500;
const MOST_STATES = 64;

/** That clocks agree at all; the rest falls off with the distance, up to the most that is believed. */
const AGREE = 0.6;
/** From one alarm to the next, however near. */
const DRIFTS = 0.01;
const JUMPS = 0.001;
/** The longer nothing was heard of a clock, the less is known of it. */
const DRIFTS_A_DAY = 0.1;
const JUMPS_A_DAY = 0.05;
const MOST_DRIFTS = 0.25;
const MOST_JUMPS = 0.3;
const DAY_MS = 86_400_000;

export interface PathStep {
  /** Offsets that were considered, in bins. */
  readonly bins: readonly number[];
  /** Probability of each by all alarms but this. */
  readonly others: Float64Array;
  /** By all alarms. */
  readonly all: Float64Array;
  /** The bin that is the likeliest. */
  readonly best: number;
}

/** An alarm. */
export interface Told {
  /** On the sensor's clock. */
  readonly at: number;
  readonly evidence: readonly TimeEvidence[];
}

export function offsetPath(steps: readonly Told[], maxSkewMs: number): PathStep[] {
  const bins = statesOf(steps, maxSkewMs);
  const prior = normal(Float64Array.from(bins, (bin) => priorOf(bin, maxSkewMs)));
  const transit = transition(bins, prior);
  const emissions = steps.map(({ evidence }) =>
    Float64Array.from(bins, (bin) =>
      evidence.reduce((sum, one) => sum + explains(one, bin * BIN_MS, COARSE_MS), 1),
    ),
  );
  const sinceMs = (i: number): number => (i === 0 ? 0 : Math.abs(steps[i]!.at - steps[i - 1]!.at));
  const before: Float64Array[] = [];
  for (const [i] of steps.entries())
    before.push(i === 0 ? prior : transit(normal(product(before[i - 1]!, emissions[i - 1]!)), sinceMs(i)));
  const path: PathStep[] = [];
  let after: Float64Array = new Float64Array(bins.length).fill(1);
  for (let i = steps.length - 1; i >= 0; i--) {
    const others = normal(product(before[i]!, after));
    const all = normal(product(others, emissions[i]!));
    const best = bins[all.reduce((most, weight, state) => (weight > all[most]! ? state : most), 0)]!;
    path.push({ bins, others, all, best });
    // The chain is the same in both directions but for where jumps lead, which is left to the prior.
    after = normal(transit(normal(product(after, emissions[i]!)), sinceMs(i), true));
  }
  return path.reverse();
}

/** Bins that alarms vote for, one vote each however many acts resemble it: a scan must not outvote everything else. Zero is always one. */
function statesOf(steps: readonly Told[], maxSkewMs: number): number[] {
  const votes = new Map<number, number>([[0, Number.POSITIVE_INFINITY]]);
  const vote = (offsetMs: number, weight: number): void => {
    if (Math.abs(offsetMs) > maxSkewMs) return;
    const bin = Math.round(offsetMs / BIN_MS);
    for (const [near, share] of [
      [bin - 1, 0.5],
      [bin, 1],
      [bin + 1, 0.5],
    ] as const)
      votes.set(near, (votes.get(near) ?? 0) + weight * share);
  };
  for (const { evidence } of steps) {
    const total = evidence.reduce((sum, { weight }) => sum + weight, 0);
    for (const { beginMs, fromMs, toMs, weight } of evidence) {
      vote(beginMs, weight / total);
      if (toMs - fromMs > 2 * BIN_MS) vote(Math.min(Math.max(0, fromMs), toMs), weight / total / 2);
    }
  }
  return [...votes]
    .sort((a, b) => b[1] - a[1] || Math.abs(a[0]) - Math.abs(b[0]))
    .slice(0, MOST_STATES)
    .map(([bin]) => bin);
}

function priorOf(bin: number, maxSkewMs: number): number {
  if (bin === 0) return AGREE;
  const harmonic = Math.log(maxSkewMs / BIN_MS) + 0.5772;
  return (1 - AGREE) / 2 / harmonic / Math.abs(bin);
}

/** From one alarm to the next; `back`: from the next to this. */
function transition(bins: readonly number[], prior: Float64Array) {
  const place = new Map(bins.map((bin, state) => [bin, state]));
  const neighbours = bins.map((bin) =>
    [bin - 1, bin + 1].flatMap((near) => (place.has(near) ? [place.get(near)!] : [])),
  );
  return (weights: Float64Array, sinceMs: number, back = false): Float64Array => {
    const days = sinceMs / DAY_MS;
    const drifts = Math.min(MOST_DRIFTS, DRIFTS + days * DRIFTS_A_DAY);
    const jumps = Math.min(MOST_JUMPS, JUMPS + days * JUMPS_A_DAY);
    const jumped = back
      ? weights.reduce((sum, weight, state) => sum + weight * prior[state]!, 0)
      : weights.reduce((sum, weight) => sum + weight, 0);
    return Float64Array.from(weights, (weight, state) => {
      const drifted = neighbours[state]!.reduce((sum, near) => sum + weights[near]!, 0);
      const leaps = jumped * (back ? 1 : prior[state]!);
      return (1 - 2 * drifts - jumps) * weight + drifts * drifted + jumps * leaps;
    });
  };
}

const product = (a: Float64Array, b: Float64Array): Float64Array => a.map((weight, i) => weight * b[i]!);

function normal(weights: Float64Array): Float64Array {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}
