import { z } from "zod";
import { effectiveReward, SharedSettings } from "./ipa.ts";
import { clamp, geometricRatio, keeps, ratio } from "./ratios.ts";
import {
  type BatchWeights,
  checkTrajectory,
  countBatch,
  type Diagnostics,
  isTrainable,
  type LearningTrajectory,
  type NormaliserName,
  thetaOf,
} from "./trajectory.ts";

/**
 * The algorithms that IPA is compared with. They read the same batch and answer in the same form; all work on tokens and whole
 * trajectories where IPA works on chunks.
 */

/** Eq. 6: REINFORCE with the TOPR split on whole trajectories and a token-level mismatch mask. The paper's baseline of Fig. 10. */
export const ReinforceSettings = SharedSettings;
export type ReinforceSettings = z.infer<typeof ReinforceSettings>;

/** RAFT: log-likelihood of the successes, each token with weight 1. */
export const RaftSettings = SharedSettings.omit({ failReward: true });
export type RaftSettings = z.infer<typeof RaftSettings>;

/** GRPO (arXiv 2402.03300) without its KL term: group-normalised advantages, PPO clip on tokens. */
export const GrpoSettings = SharedSettings.omit({ failReward: true }).extend({
  /** Token ratios are cut to [1 − clipLow, 1 + clipHigh]; null leaves them alone. */
  clipLow: z.number().min(0).max(1).nullable().default(0.2),
  clipHigh: z.number().min(0).nullable().default(0.2),
  /** Divide by the standard deviation of the group, as published; false subtracts the mean only. */
  divideByStd: z.boolean().default(true),
});
export type GrpoSettings = z.infer<typeof GrpoSettings>;

/** One token of the sum before the division by N. */
interface TokenWeight {
  readonly weight: number;
  readonly rho: number;
  readonly mismatch: number;
  readonly masked: boolean;
  readonly clipped: boolean;
}

/** Eq. 6: m_t · R for T⁺, m_t · clip(ρ(τ), 0, 1) · R for the rest. Chunk returns, where given, stand in for R. */
export function reinforceBatch(
  batch: readonly LearningTrajectory[],
  settings: ReinforceSettings,
): BatchWeights {
  return tokenBatch(batch, settings.normaliser, (trajectory) => {
    const trained = trajectory.chunks.filter((_, k) => isTrainable(trajectory, k));
    // Eq. 4: geometric mean over the whole trajectory.
    const rho =
      trained.length === 0
        ? 1
        : geometricRatio(
            trained.flatMap(thetaOf),
            trained.flatMap((c) => c.logpOld),
          );
    const reward = effectiveReward(trajectory.rFinal, settings.failReward);
    return (k, t) => {
      const gain = trajectory.chunkReturns?.[k] ?? reward;
      const isPraised = trajectory.rFinal > 0 && gain >= 0;
      const factor = isPraised ? 1 : clamp(rho, 0, 1);
      const mismatch = mismatchAt(trajectory, k, t);
      const masked = !keeps(mismatch, settings);
      return { weight: masked ? 0 : factor * gain, rho, mismatch, masked, clipped: !isPraised && rho > 1 };
    };
  });
}

/** RAFT: m_t for T⁺, 0 for the rest. Chunk returns are not read. */
export function raftBatch(batch: readonly LearningTrajectory[], settings: RaftSettings): BatchWeights {
  return tokenBatch(batch, settings.normaliser, (trajectory) => (k, t) => {
    const mismatch = mismatchAt(trajectory, k, t);
    const masked = !keeps(mismatch, settings);
    const rho = rhoAt(trajectory, k, t);
    return { weight: !masked && trajectory.rFinal > 0 ? 1 : 0, rho, mismatch, masked, clipped: false };
  });
}

/**
 * GRPO. The weight is the derivative of min(r_t A, clip(r_t) A) by log π_θ at the current θ: r_t A where the clip does not bind,
 * 0 where it does. Every trajectory needs a `group` (TypeError); chunk returns are not read, so a penalty must be in rFinal.
 */
export function grpoBatch(batch: readonly LearningTrajectory[], settings: GrpoSettings): BatchWeights {
  const advantages = groupAdvantages(batch, settings.divideByStd);
  const low = settings.clipLow === null ? 0 : 1 - settings.clipLow;
  const high = settings.clipHigh === null ? Number.POSITIVE_INFINITY : 1 + settings.clipHigh;
  return tokenBatch(batch, settings.normaliser, (trajectory, i) => {
    const advantage = advantages[i]!;
    return (k, t) => {
      const mismatch = mismatchAt(trajectory, k, t);
      const masked = !keeps(mismatch, settings);
      const rho = rhoAt(trajectory, k, t);
      const clipped = (advantage > 0 && rho > high) || (advantage < 0 && rho < low);
      return { weight: masked || clipped ? 0 : rho * advantage, rho, mismatch, masked, clipped };
    };
  });
}

/** (R − mean of the group) / (standard deviation + 1e-6), one a trajectory; exactly 0 in a group where all rewards are equal. */
export function groupAdvantages(batch: readonly LearningTrajectory[], divideByStd: boolean): number[] {
  const groups = new Map<string, number[]>();
  batch.forEach(({ group, rFinal }, i) => {
    if (group === undefined)
      throw new TypeError(`trajectory ${i}: GRPO compares within a group, and it has none`);
    const rewards = groups.get(group);
    if (rewards === undefined) groups.set(group, [rFinal]);
    else rewards.push(rFinal);
  });
  return batch.map(({ group, rFinal }) => {
    const rewards = groups.get(group!)!;
    if (rewards.every((reward) => reward === rFinal)) return 0;
    const mean = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
    const variance = rewards.reduce((sum, reward) => sum + (reward - mean) ** 2, 0) / rewards.length;
    return divideByStd ? (rFinal - mean) / (Math.sqrt(variance) + 1e-6) : rFinal - mean;
  });
}

const mismatchAt = (trajectory: LearningTrajectory, k: number, t: number): number => {
  const chunk = trajectory.chunks[k]!;
  return ratio(chunk.logpOld[t]!, chunk.logpSampler[t]!);
};

const rhoAt = (trajectory: LearningTrajectory, k: number, t: number): number => {
  const chunk = trajectory.chunks[k]!;
  return ratio(thetaOf(chunk)[t]!, chunk.logpOld[t]!);
};

/** Runs `rule` over every trainable token of the batch, divides by N and counts. */
function tokenBatch(
  batch: readonly LearningTrajectory[],
  normaliserName: NormaliserName,
  rule: (trajectory: LearningTrajectory, i: number) => (k: number, t: number) => TokenWeight,
): BatchWeights {
  batch.forEach(checkTrajectory);
  const counts = countBatch(batch);
  const normaliser = Math.max(1, counts[normaliserName]);
  const sums = { rho: 0, mismatch: 0, masked: 0, clipped: 0 };
  let active = 0;
  const weights = batch.map((trajectory, i) => {
    const weigh = rule(trajectory, i);
    let used = false;
    const chunks = trajectory.chunks.map((chunk, k) => {
      const tokens = new Array<number>(chunk.tokens).fill(0);
      if (!isTrainable(trajectory, k)) return tokens;
      for (let t = 0; t < chunk.tokens; t++) {
        const token = weigh(k, t);
        sums.rho += token.rho;
        sums.mismatch += token.mismatch;
        sums.masked += token.masked ? 1 : 0;
        sums.clipped += token.clipped ? 1 : 0;
        if (token.weight === 0) continue;
        used = true;
        tokens[t] = token.weight / normaliser;
      }
      return tokens;
    });
    if (used) active += 1;
    return chunks;
  });
  const share = (sum: number, empty: number): number => (counts.token === 0 ? empty : sum / counts.token);
  const diagnostics: Diagnostics = {
    trajectories: batch.length,
    positives: batch.filter((trajectory) => trajectory.rFinal > 0).length,
    active,
    trainableChunks: counts.chunk,
    trainableTokens: counts.token,
    maskFraction: share(sums.masked, 0),
    meanRho: share(sums.rho, 1),
    meanMismatch: share(sums.mismatch, 1),
    clippedFraction: share(sums.clipped, 0),
  };
  return { weights, normaliser, diagnostics };
}
