import { scoringDatum, weightedDatum } from "../engine/datum.ts";
import type { TinkerModel } from "../engine/tinker.ts";
import { engineUpstream } from "../engine/upstream.ts";
import type { Learner } from "./learner.ts";

/** A learner over one model of a Tinker engine. `name` is what episodes record as the model that acted. */
export function engineLearner(model: TinkerModel, name: string): Learner {
  return {
    async sampler(version, signal) {
      return engineUpstream(await model.sampler(signal), name, version);
    },
    async logprobs(sequences, signal) {
      if (sequences.length === 0) return [];
      const { logprobs } = await model.forward(sequences.map(scoringDatum), signal);
      return logprobs.map((row) => [0, ...row]);
    },
    async step(batch, adam, signal) {
      const data = batch.map(({ tokens, weights }) => weightedDatum(tokens, weights));
      const { loss, logprobs } = await model.forwardBackward(data, signal);
      const { gradNorm } = await model.optimStep(adam, signal);
      return { gradNorm: gradNorm ?? Number.NaN, loss: loss ?? weightedLoss(data, logprobs) };
    },
    save: (checkpoint, signal) => model.saveWeights(checkpoint, signal),
    async export(checkpoint, signal) {
      return (await model.saveSamplerWeights(checkpoint, signal)).directory;
    },
  };
}

/** −Σ w·log π, for servers that do not report it. */
function weightedLoss(
  data: readonly { readonly weights?: readonly number[] }[],
  logprobs: readonly (readonly number[])[],
): number {
  let sum = 0;
  data.forEach((datum, i) => {
    datum.weights?.forEach((weight, t) => {
      sum -= weight * logprobs[i]![t]!;
    });
  });
  return sum;
}
