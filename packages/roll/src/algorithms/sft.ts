import { z } from "zod";

/**
 * Supervised fine-tuning weights, Eq. 1–2: the log-likelihood of the expert's chunks, without those whose tool call failed
 * (error mask) and those outside the task at hand (relevance mask), as a mean over the tokens that remain.
 */

export interface SftChunk {
  /** |c| ≥ 1. */
  readonly tokens: number;
  /** The tool call of this chunk failed: learn from what followed, not from the mistake. */
  readonly error: boolean;
  /** The chunk serves the task being learnt. */
  readonly relevant: boolean;
}

export const SftSettings = z.strictObject({
  /**
   * `batch`: one mean over all trained tokens of the batch. `trajectory`: Eq. 1 for each trajectory, then their mean. The paper
   * writes Eq. 1 for one trajectory and does not say how trajectories are joined.
   */
  normaliser: z.enum(["batch", "trajectory"]).default("batch"),
});
export type SftSettings = z.infer<typeof SftSettings>;

/** Eq. 2: m_k = 1[not Err(k)] · 1[Rel(k)]. */
export const sftMask = (chunk: SftChunk): 0 | 1 => (!chunk.error && chunk.relevant ? 1 : 0);

export interface SftWeights {
  /** `weights[i][k][t]`: trajectory i, chunk k, token t of that chunk. They sum to 1 unless nothing is trained. */
  readonly weights: readonly (readonly (readonly number[])[])[];
  readonly trainedTokens: number;
  readonly trainedChunks: number;
  readonly maskedChunks: number;
}

/** Eq. 1 for a batch: w = m_k / Σ m_k |c_k|. Instead of the paper's + ε, a sum of 0 gives weights of exactly 0. */
export function sftBatch(batch: readonly (readonly SftChunk[])[], settings: SftSettings): SftWeights {
  const trained = batch.map((chunks) =>
    chunks.reduce((sum, chunk) => sum + sftMask(chunk) * checkedTokens(chunk), 0),
  );
  const total = trained.reduce((sum, tokens) => sum + tokens, 0);
  const usable = trained.filter((tokens) => tokens > 0).length;
  const weights = batch.map((chunks, i) => {
    const divisor = settings.normaliser === "batch" ? total : trained[i]! * usable;
    return chunks.map((chunk) => {
      const mask = sftMask(chunk);
      return new Array<number>(chunk.tokens).fill(mask === 0 ? 0 : mask / divisor);
    });
  });
  const chunks = batch.flat();
  const trainedChunks = chunks.filter((chunk) => sftMask(chunk) === 1).length;
  return { weights, trainedTokens: total, trainedChunks, maskedChunks: chunks.length - trainedChunks };
}

function checkedTokens(chunk: SftChunk): number {
  if (!Number.isInteger(chunk.tokens) || chunk.tokens < 1)
    throw new TypeError(`sftBatch: a chunk has ${chunk.tokens} tokens`);
  return chunk.tokens;
}

/**
 * Eq. 1 on a token mask that was made elsewhere: 1/`trainedTokens` where the mask is set, 0 elsewhere. `trainedTokens` is counted
 * over the whole batch; with 0 all weights are 0.
 */
export function sftWeights(mask: readonly (boolean | number)[], trainedTokens: number): number[] {
  return mask.map((trained) => (trained && trainedTokens > 0 ? 1 / trainedTokens : 0));
}
