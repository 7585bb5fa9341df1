import { z } from "zod";
import {
  GrpoSettings,
  grpoBatch,
  RaftSettings,
  ReinforceSettings,
  raftBatch,
  reinforceBatch,
} from "./baselines.ts";
import { IpaSettings, ipaBatch } from "./ipa.ts";
import type { BatchWeights, LearningTrajectory } from "./trajectory.ts";

/** The `algorithm` field of a recipe: a comparison changes `name` and nothing else. Unknown keys are refused. */
export const Algorithm = z.discriminatedUnion("name", [
  IpaSettings.extend({ name: z.literal("ipa") }),
  ReinforceSettings.extend({ name: z.literal("reinforce") }),
  GrpoSettings.extend({ name: z.literal("grpo") }),
  RaftSettings.extend({ name: z.literal("raft") }),
]);
export type Algorithm = z.infer<typeof Algorithm>;
/** An algorithm as a person writes it: everything but the name has a default. */
export type AlgorithmInput = z.input<typeof Algorithm>;

/** Token weights of a batch under any algorithm, divided by the normaliser. Throws a TypeError on malformed trajectories. */
export function tokenWeights(batch: readonly LearningTrajectory[], algorithm: Algorithm): BatchWeights {
  switch (algorithm.name) {
    case "ipa":
      return ipaBatch(batch, algorithm);
    case "reinforce":
      return reinforceBatch(batch, algorithm);
    case "grpo":
      return grpoBatch(batch, algorithm);
    case "raft":
      return raftBatch(batch, algorithm);
    default:
      return algorithm satisfies never;
  }
}

/**
 * Whether the weights depend on log π_θ of the current weights in the way that an extra forward pass would change: after the
 * first optimiser step of a batch, θ is no longer θ_old. Positive-only learning never needs that pass.
 */
export function needsThetaLogprobs(batch: readonly LearningTrajectory[], algorithm: Algorithm): boolean {
  switch (algorithm.name) {
    case "ipa":
    case "reinforce":
      return batch.some(
        ({ rFinal, chunkReturns }) =>
          chunkReturns?.some((gain) => gain !== null && gain < 0) ||
          (rFinal <= 0 &&
            (chunkReturns?.some((gain) => gain !== 0) ?? (rFinal < 0 || algorithm.failReward !== 0))),
      );
    case "grpo":
      return true;
    case "raft":
      return false;
    default:
      return algorithm satisfies never;
  }
}
