import { z } from "zod";
import { clamp, LOG_RATIO_LIMIT } from "./ratios.ts";
import { chunkReturns } from "./returns.ts";

/**
 * The imitation term of Eq. 10: log-likelihood of the expert's chunks up to and including the crucial one, so that a fork from
 * which the policy never succeeds still gives a gradient. The reinforcement term of Eq. 10 is Eq. 9 times λ_RL (`scaleWeights`).
 */

export const ImitationSettings = z.strictObject({
  /** λ_IL. The factor is in the paper, its value is not. */
  lambdaIl: z.number().nonnegative().default(1),
  /** λ_RL. The factor is in the paper, its value is not. */
  lambdaRl: z.number().nonnegative().default(1),
  /**
   * When the term is used. The paper calls it a fallback (`whenNoPositive`) and also part of the final loss (`always`).
   * `off` is not in the paper.
   */
  ilMode: z.enum(["off", "whenNoPositive", "always"]).default("off"),
  /**
   * The factor π_θ(c*) of Eq. 10, never differentiated. `one` leaves it out (the expectation notation of Eq. 9; not in the
   * paper), `geometric` is exp(mean log π_θ), `literal` is the probability of the whole chunk, which is about 0 for long ones.
   */
  ilWeight: z.enum(["one", "geometric", "literal"]).default("one"),
});
export type ImitationSettings = z.infer<typeof ImitationSettings>;

export interface ExpertTrajectory {
  /** All chunks of τ*; `logpTheta` (one a token) is needed for every `ilWeight` but `one`. */
  readonly chunks: readonly { readonly tokens: number; readonly logpTheta?: readonly number[] }[];
  readonly rFinal: number;
  /** f: index of the crucial chunk, imitated too. */
  readonly fork: number;
  /** Whether any trajectory resampled from this fork had rFinal > 0. */
  readonly hasPositive: boolean;
}

/** `weights[i][k][t]`, with λ_IL and 1/N in it; N = expert trajectories that are imitated. `used` tells which are. */
export interface ImitationWeights {
  readonly weights: readonly (readonly (readonly number[])[])[];
  readonly used: readonly boolean[];
  readonly normaliser: number;
}

/** Eq. 10, first sum: w = λ_IL · π_θ(c*_k) · G_k / N for k ≤ f, with G of Eq. 7 over the whole expert trajectory. */
export function imitationBatch(
  experts: readonly ExpertTrajectory[],
  settings: ImitationSettings,
  gamma: number,
): ImitationWeights {
  const used = experts.map((expert) => isUsed(expert, settings));
  const normaliser = Math.max(1, used.filter(Boolean).length);
  const weights = experts.map((expert, i) => {
    const returns = chunkReturns(expert.chunks.length, expert.rFinal, gamma);
    return expert.chunks.map((chunk, k) => {
      const trained = used[i]! && k <= expert.fork;
      const weight = trained
        ? (settings.lambdaIl * probability(chunk, settings.ilWeight) * returns[k]!) / normaliser
        : 0;
      return new Array<number>(chunk.tokens).fill(weight);
    });
  });
  return { weights, used, normaliser };
}

function isUsed(expert: ExpertTrajectory, settings: ImitationSettings): boolean {
  switch (settings.ilMode) {
    case "off":
      return false;
    case "whenNoPositive":
      return !expert.hasPositive;
    case "always":
      return true;
    default:
      return settings.ilMode satisfies never;
  }
}

function probability(chunk: ExpertTrajectory["chunks"][number], kind: ImitationSettings["ilWeight"]): number {
  if (kind === "one") return 1;
  if (chunk.logpTheta?.length !== chunk.tokens)
    throw new TypeError(`imitationBatch: ilWeight ${kind} needs one logpTheta a token`);
  const sum = chunk.logpTheta.reduce((total, logp) => total + logp, 0);
  const exponent = kind === "geometric" ? sum / chunk.tokens : sum;
  return Math.exp(clamp(exponent, -LOG_RATIO_LIMIT, 0));
}
