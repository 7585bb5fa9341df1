/**
 * Chunk-level discounted returns. All tokens of a chunk share its return, and discounting counts chunks, not tokens: the
 * chunk that settles the outcome gets the full reward, early ones exponentially less.
 */

/**
 * Eq. 7 with the outcome-determining chunk j taken as the last (the paper leaves j undefined): G_k = γ^(K−1−k) · R, k = 0 … K−1.
 * `gamma` in (0, 1]; the answer has `chunks` entries, the last one is `rFinal` itself.
 */
export function chunkReturns(chunks: number, rFinal: number, gamma: number): number[] {
  return Array.from({ length: chunks }, (_, k) => gamma ** (chunks - 1 - k) * rFinal);
}

/** G_k = r_k + γ · G_(k+1). Equals Eq. 7 when only the last reward differs from 0. */
export function discountedReturns(rewards: readonly number[], gamma: number): number[] {
  const returns = new Array<number>(rewards.length).fill(0);
  let next = 0;
  for (let k = rewards.length - 1; k >= 0; k--) {
    next = rewards[k]! + gamma * next;
    returns[k] = next;
  }
  return returns;
}
