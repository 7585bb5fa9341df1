/**
 * Importance ratios. Two different ones exist and must not be mixed: the staleness ratio π_θ / π_θold scales the gradient of
 * failures, the engine-mismatch ratio π_θold / µ_θold only decides whether a chunk (or token) is used at all.
 */

/** Log-ratios are cut to ±20 before they are exponentiated, so that a ratio is never 0, infinite or NaN. */
export const LOG_RATIO_LIMIT = 20;

export const clamp = (value: number, low: number, high: number): number =>
  Math.min(Math.max(value, low), high);

/** exp of the difference of two log-probabilities, cut to e^±20. */
export function ratio(logpNumerator: number, logpDenominator: number): number {
  return Math.exp(clamp(logpNumerator - logpDenominator, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT));
}

/**
 * Eq. 8: the geometric mean over the tokens, exp(mean(a − b)), which does not depend on how long the chunk is (the product
 * would). The mean is cut to ±20. Throws a TypeError when the lengths differ or are 0.
 */
export function geometricRatio(logpNumerator: readonly number[], logpDenominator: readonly number[]): number {
  const length = logpNumerator.length;
  if (length === 0 || length !== logpDenominator.length)
    throw new TypeError(`geometricRatio: ${length} and ${logpDenominator.length} log-probabilities`);
  let sum = 0;
  for (let t = 0; t < length; t++) sum += logpNumerator[t]! - logpDenominator[t]!;
  return Math.exp(clamp(sum / length, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT));
}

/** Bounds of the mismatch mask. The paper has only the upper one, H, and gives no value for it. */
export interface MaskBounds {
  readonly maskLow: number;
  readonly maskHigh: number;
}

/** m of Eq. 6 (token) and Eq. 8 (chunk): whether a mismatch ratio keeps what it belongs to. */
export const keeps = (mismatch: number, bounds: MaskBounds): boolean =>
  mismatch <= bounds.maskHigh && mismatch >= bounds.maskLow;
