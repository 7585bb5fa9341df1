import { logChoose, studentQuantile } from "./special-functions.ts";

/**
 * What may be said of pass rates and of differences between them. Pure. Every interval is two-sided with 95 % coverage, every
 * p-value two-sided. Rates and differences are fractions, not per cent.
 */

/** The 0.975 quantile of the normal distribution. */
const Z = 1.959963984540054;

export interface Interval {
  readonly low: number;
  readonly high: number;
}

export interface Rate {
  readonly successes: number;
  readonly trials: number;
}

function checkRate({ successes, trials }: Rate): void {
  if (!(Number.isInteger(successes) && Number.isInteger(trials) && successes >= 0 && successes <= trials))
    throw new RangeError(`a rate needs integers 0 <= successes <= trials, not ${successes} of ${trials}`);
}

/** Wilson's score interval for a proportion (Wilson 1927). No trials: [0, 1]. */
export function wilson(rate: Rate): Interval {
  checkRate(rate);
  const { successes, trials } = rate;
  if (trials === 0) return { low: 0, high: 1 };
  const p = successes / trials;
  const z2 = Z * Z;
  const centre = (p + z2 / (2 * trials)) / (1 + z2 / trials);
  const half = (Z / (1 + z2 / trials)) * Math.sqrt((p * (1 - p)) / trials + z2 / (4 * trials * trials));
  return {
    low: successes === 0 ? 0 : Math.max(0, centre - half),
    high: successes === trials ? 1 : Math.min(1, centre + half),
  };
}

export interface Difference extends Interval {
  readonly delta: number;
}

/** `after − before` for two independent proportions, Newcombe's hybrid score interval (Newcombe 1998, method 10). */
export function newcombe(before: Rate, after: Rate): Difference {
  if (before.trials === 0 || after.trials === 0) return { delta: Number.NaN, low: -1, high: 1 };
  const p1 = after.successes / after.trials;
  const p2 = before.successes / before.trials;
  const one = wilson(after);
  const two = wilson(before);
  const delta = p1 - p2;
  return {
    delta,
    low: delta - Math.sqrt((p1 - one.low) ** 2 + (two.high - p2) ** 2),
    high: delta + Math.sqrt((one.high - p1) ** 2 + (p2 - two.low) ** 2),
  };
}

export interface MeanEstimate {
  readonly n: number;
  readonly mean: number;
  /** Standard error, sample standard deviation (n − 1) over √n; NaN for fewer than two values. */
  readonly standardError: number;
}

export function meanOf(values: readonly number[]): MeanEstimate {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { n, mean, standardError: n < 2 ? Number.NaN : Math.sqrt(squares / (n - 1) / n) };
}

/** Standard error of a mean whose values come in clusters (several attempts at one task), with the C/(C−1) correction. */
export function clusteredStandardError(
  values: readonly number[],
  clusters: readonly (string | number)[],
): number {
  if (values.length !== clusters.length) throw new RangeError("one cluster for each value");
  const { mean, n } = meanOf(values);
  const sums = new Map<string | number, number>();
  values.forEach((value, i) => {
    sums.set(clusters[i]!, (sums.get(clusters[i]!) ?? 0) + value - mean);
  });
  const count = sums.size;
  if (count < 2) return Number.NaN;
  const squares = [...sums.values()].reduce((sum, value) => sum + value * value, 0);
  return Math.sqrt((squares * count) / (count - 1)) / n;
}

/** Mean ± t quantile × standard error, with n − 1 degrees of freedom. */
export function studentInterval({ n, mean, standardError }: MeanEstimate): Interval {
  const half = studentQuantile(0.975, n - 1) * standardError;
  return { low: mean - half, high: mean + half };
}

export interface PairedDifference extends Difference {
  readonly n: number;
  readonly standardError: number;
}

/** `after − before` on the same tasks: mean of the differences with its t interval. Needs at least two pairs. */
export function pairedDifference(before: readonly number[], after: readonly number[]): PairedDifference {
  if (before.length !== after.length || before.length < 2)
    throw new RangeError(`at least two pairs are needed, not ${before.length} and ${after.length} values`);
  const estimate = meanOf(after.map((value, i) => value - before[i]!));
  return {
    n: estimate.n,
    delta: estimate.mean,
    standardError: estimate.standardError,
    ...studentInterval(estimate),
  };
}

/**
 * Exact McNemar test on the same tasks before and after: `gained` tasks fail before and pass after, `lost` the other way round;
 * under no change each is a fair coin. Returns p.
 */
export function mcnemarExact(gained: number, lost: number): number {
  const n = gained + lost;
  checkRate({ successes: gained, trials: n });
  let tail = 0;
  for (let k = 0; k <= Math.min(gained, lost); k++) tail += Math.exp(logChoose(n, k) - n * Math.LN2);
  return Math.min(1, 2 * tail);
}

/**
 * Fisher's exact test for two independent proportions. Two-sided in the usual sense: all tables with the same margins that are no
 * more likely than the observed one. Returns p.
 */
export function fisherExact(one: Rate, two: Rate): number {
  checkRate(one);
  checkRate(two);
  const successes = one.successes + two.successes;
  const total = one.trials + two.trials;
  const logProbability = (k: number): number =>
    logChoose(one.trials, k) + logChoose(two.trials, successes - k) - logChoose(total, successes);
  // Equal probabilities must count as equal in spite of rounding.
  const limit = logProbability(one.successes) + 1e-7;
  let p = 0;
  for (let k = Math.max(0, successes - two.trials); k <= Math.min(one.trials, successes); k++) {
    const log = logProbability(k);
    if (log <= limit) p += Math.exp(log);
  }
  return Math.min(1, p);
}
