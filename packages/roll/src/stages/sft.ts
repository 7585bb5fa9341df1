import { digestOf, seededRandom, seedOf } from "@ale/core";
import { renamed, type SftExample, sftExamplesOf, shuffledBatches } from "@ale/data";
import { sftWeights } from "../algorithms/sft.ts";
import type { Adam, SftStage } from "../recipe/recipe.ts";
import { demonstrationTasks } from "../rollout/tasks.ts";
import { passed } from "../run/figures.ts";
import type { SftResult } from "../run/run-state.ts";
import type { StageContext } from "./context.ts";
import type { WeightedSequence } from "./learner.ts";
import { oneEach } from "./one-each.ts";

/** Supervised warm start: noisy-expert episodes in real sandboxes, error-masked, renamed, a fixed number of optimiser steps. */
export async function sft(
  context: StageContext,
  stage: SftStage,
  interchangeable: readonly (readonly number[])[],
  signal: AbortSignal,
): Promise<SftResult> {
  const { deps } = context;
  const started = deps.clock.monotonicMs();
  const demonstrations = await demonstrate(context, stage, signal);
  const random = seededRandom(`${context.seed}/sft/batches`);
  let step = context.state().step;
  const batches = shuffledBatches(demonstrations.examples, stage.batchSize, random, step);
  let trainedTokens = 0;
  let lossPerToken = Number.NaN;
  while (step < stage.steps) {
    const naming = seededRandom(`${context.seed}/sft/names/${step}`);
    const batch = batches
      .next()
      .value.map((example) => (stage.rename ? renamed(example, interchangeable, naming) : example));
    const { sequences, learnt } = weightedBatch(batch);
    const result = await context.learner.step(sequences, scheduled(stage, step), signal);
    step++;
    lossPerToken = result.loss;
    trainedTokens += learnt;
    context.progress({
      type: "sft",
      progress: {
        type: "sft-step",
        stage: context.stageIndex,
        step,
        lossPerToken,
        gradNorm: result.gradNorm,
      },
    });
    context.progress({
      type: "tick",
      label: "sft",
      done: step,
      total: stage.steps,
      note: `loss ${lossPerToken.toFixed(3)}`,
    });
    if (step % stage.checkpointEvery === 0 || step === stage.steps) {
      context.commit({ step, ...(await context.checkpoint(signal)) });
    }
  }
  return {
    type: "sft",
    steps: step,
    trainedTokens,
    lossPerToken,
    demonstrations: demonstrations.figures,
    seconds: (deps.clock.monotonicMs() - started) / 1000,
  };
}

interface Demonstrations {
  readonly examples: readonly SftExample[];
  readonly figures: SftResult["demonstrations"];
}

async function demonstrate(
  context: StageContext,
  stage: SftStage,
  signal: AbortSignal,
): Promise<Demonstrations> {
  const { episodes, families, noise, shortcutRate } = stage.demonstrations;
  const tasks = demonstrationTasks(context.families(families), episodes);
  const result = await oneEach(
    context,
    {
      tasks,
      prefix: `s${context.stageIndex}/demo`,
      version: null,
      purpose: "demo",
      actor: (group, member, attempt) => ({
        type: "expert",
        noise,
        shortcutRate,
        random: seededRandom(seedOf(`${context.seed}/${group}/${member}/${attempt}`)),
      }),
      concurrency: Math.min(context.concurrency, 16),
      label: "demonstrations",
    },
    signal,
  );
  const finished = result.groups.flat();
  return {
    examples: finished
      .flatMap((episode) => sftExamplesOf(episode.trajectory))
      .filter((example) => example.learntTokens > 0),
    figures: {
      episodes: finished.length,
      passRate:
        finished.filter((episode) => passed(episode.trajectory)).length / Math.max(1, finished.length),
      rejected: Object.values(result.rejected).reduce((sum, count) => sum + count, 0),
      digest: digestOf(finished.map((episode) => episode.head)),
    },
  };
}

function weightedBatch(batch: readonly SftExample[]): { sequences: WeightedSequence[]; learnt: number } {
  const learnt = batch.reduce((sum, example) => sum + example.learntTokens, 0);
  return {
    learnt,
    sequences: batch.map(({ tokens, mask }) => ({ tokens, weights: sftWeights(mask, learnt) })),
  };
}

/** Linear warm-up, then linear decay to a tenth of the peak. */
function scheduled(stage: SftStage, step: number): Adam {
  const warm = Math.min(1, (step + 1) / Math.max(1, stage.warmupSteps));
  const decay = 1 - 0.9 * (step / stage.steps);
  return { ...stage.adam, learningRate: stage.adam.learningRate * warm * decay };
}
