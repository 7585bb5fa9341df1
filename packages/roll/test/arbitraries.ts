import fc from "fast-check";
import type { LearningChunk, LearningTrajectory } from "../src/index.ts";

/** Random batches for property tests: policy and expert chunks, prefixes, rewards of either sign, three independent policies. */

const logp = fc.double({ min: -12, max: -1e-3, noNaN: true });

export const chunkOf = (source: "policy" | "expert" = "policy"): fc.Arbitrary<LearningChunk> =>
  fc.integer({ min: 1, max: 6 }).chain((tokens) => {
    const series = fc.array(logp, { minLength: tokens, maxLength: tokens });
    return fc.record({
      tokens: fc.constant(tokens),
      logpTheta: series,
      logpOld: series,
      logpSampler: series,
      source: fc.constant(source),
    });
  });

export const trajectoryOf = (reward: fc.Arbitrary<number>): fc.Arbitrary<LearningTrajectory> =>
  fc
    .record({
      chunks: fc.array(
        fc.oneof({ weight: 5, arbitrary: chunkOf() }, { weight: 1, arbitrary: chunkOf("expert") }),
        {
          minLength: 1,
          maxLength: 6,
        },
      ),
      rFinal: reward,
      group: fc.constantFrom("a", "b"),
    })
    .chain((trajectory) =>
      fc
        .integer({ min: 0, max: trajectory.chunks.length })
        .map((prefixLength) => ({ ...trajectory, prefixLength })),
    );

export const anyReward = fc.constantFrom(0, 1, 0.5, -1);
export const anyBatch = fc.array(trajectoryOf(anyReward), { minLength: 1, maxLength: 6 });

/** A policy chunk from its log-ratios log π_θ − log π_θold, with a sampler that agrees with π_θold. */
export function chunkFromLogRatios(logRatios: readonly number[]): LearningChunk {
  const logpOld = logRatios.map(() => -1);
  return {
    tokens: logRatios.length,
    logpTheta: logRatios.map((difference) => difference - 1),
    logpOld,
    logpSampler: logpOld,
    source: "policy",
  };
}
