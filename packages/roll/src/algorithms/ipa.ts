import { z } from "zod";
import { clamp, geometricRatio, keeps } from "./ratios.ts";
import { chunkReturns } from "./returns.ts";
import {
  type BatchWeights,
  checkTrajectory,
  countBatch,
  isTrainable,
  type LearningTrajectory,
  thetaOf,
} from "./trajectory.ts";

/**
 * Interaction-Perceptive Agentic Policy Optimization (arXiv 2512.24873, §3.2.4): credit, importance and masking per chunk.
 * There is no critic, no KL term, no entropy bonus, no group baseline and no length normalisation in its equations, so there is
 * none here.
 */

export const Normaliser = z.enum(["trajectory", "chunk", "token"]);

/** Fields that IPA shares with its baselines, so that a comparison changes the algorithm and nothing else. */
export const SharedSettings = z.strictObject({
  /** H: upper bound of the mismatch ratio. The threshold is in the paper, its value is not. */
  maskHigh: z.number().positive().default(2),
  /** Lower bound of the mismatch ratio. Not in the paper (its mask has one side); 0 switches it off. */
  maskLow: z.number().nonnegative().default(0),
  /**
   * Reward of a trajectory whose terminal reward is 0. Not in the paper, and decisive: with 0 failures have no gradient at all
   * (positive-only learning), with −1 they are pushed away.
   */
  failReward: z.number().max(0).default(0),
  /** What the sum is divided by. Not in the paper, which writes expectations. */
  normaliser: Normaliser.default("trajectory"),
});

export const IpaSettings = SharedSettings.extend({
  /** Discount per chunk. γ ∈ (0, 1] is in the paper, the value is not; 0.95 is what public implementations use. */
  gamma: z.number().gt(0).max(1).default(0.95),
});
export type IpaSettings = z.infer<typeof IpaSettings>;

/** What Eq. 9 made of one chunk. */
export interface ChunkWeight {
  /** Of each of its tokens, before the division by N; 0 when the chunk is not trained. */
  readonly weight: number;
  readonly return: number;
  /** Staleness ratio ρ_c and mismatch ratio, both of Eq. 8; null for chunks that are never trained. */
  readonly rho: number | null;
  readonly mismatch: number | null;
  readonly masked: boolean;
  readonly clipped: boolean;
}

/** Reward that the sums use: `failReward` stands in for 0, an explicitly negative reward stays what it is. */
export const effectiveReward = (rFinal: number, failReward: number): number =>
  rFinal === 0 ? failReward : rFinal;

/**
 * Eq. 9 for one trajectory: w_c = m_c · G_c for T⁺, m_c · clip(ρ_c, 0, 1) · G_c for the rest. ρ_c is a number here, never
 * differentiated (the paper's clip is a weight, as in TOPR). `chunkReturns` of the trajectory replaces Eq. 7. A chunk that is blamed within a
 * trajectory of T⁺ is weighted as those of the rest are: the clip is there to bound how hard something is pushed away.
 */
export function ipaWeights(trajectory: LearningTrajectory, settings: IpaSettings): ChunkWeight[] {
  const { chunks, rFinal } = trajectory;
  const usual = chunkReturns(chunks.length, effectiveReward(rFinal, settings.failReward), settings.gamma);
  return chunks.map((chunk, k): ChunkWeight => {
    const gain = trajectory.chunkReturns?.[k] ?? usual[k]!;
    if (!isTrainable(trajectory, k))
      return { weight: 0, return: gain, rho: null, mismatch: null, masked: false, clipped: false };
    const rho = geometricRatio(thetaOf(chunk), chunk.logpOld);
    const mismatch = geometricRatio(chunk.logpOld, chunk.logpSampler);
    const masked = !keeps(mismatch, settings);
    const isPraised = rFinal > 0 && gain >= 0;
    const factor = isPraised ? 1 : clamp(rho, 0, 1);
    return {
      weight: masked ? 0 : factor * gain,
      return: gain,
      rho,
      mismatch,
      masked,
      clipped: !isPraised && rho > 1,
    };
  });
}

/** Eq. 9 for a batch, divided by N: weights ready for a cross-entropy that sums. Throws a TypeError on malformed input. */
export function ipaBatch(batch: readonly LearningTrajectory[], settings: IpaSettings): BatchWeights {
  batch.forEach(checkTrajectory);
  const counts = countBatch(batch);
  const normaliser = Math.max(1, counts[settings.normaliser]);
  const perTrajectory = batch.map((trajectory) => ipaWeights(trajectory, settings));
  const weights = perTrajectory.map((chunkWeights, i) =>
    chunkWeights.map(({ weight }, k) =>
      new Array<number>(batch[i]!.chunks[k]!.tokens).fill(weight === 0 ? 0 : weight / normaliser),
    ),
  );
  const trained = perTrajectory.flat().filter((chunk) => chunk.rho !== null);
  const mean = (value: (chunk: ChunkWeight) => number, empty: number): number =>
    trained.length === 0 ? empty : trained.reduce((sum, chunk) => sum + value(chunk), 0) / trained.length;
  return {
    weights,
    normaliser,
    diagnostics: {
      trajectories: batch.length,
      positives: batch.filter((trajectory) => trajectory.rFinal > 0).length,
      active: perTrajectory.filter((chunks) => chunks.some((chunk) => chunk.weight !== 0)).length,
      trainableChunks: counts.chunk,
      trainableTokens: counts.token,
      maskFraction: mean((chunk) => (chunk.masked ? 1 : 0), 0),
      meanRho: mean((chunk) => chunk.rho!, 1),
      meanMismatch: mean((chunk) => chunk.mismatch!, 1),
      clippedFraction: mean((chunk) => (chunk.clipped ? 1 : 0), 0),
    },
  };
}
