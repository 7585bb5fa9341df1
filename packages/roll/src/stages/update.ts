import { type Chunk, type Clock, segmentsOf, type Trajectory, tokensOf } from "@ale/core";
import { type PenaltyPolicy, penaltyOf } from "@ale/guard";
import { type Algorithm, needsThetaLogprobs, tokenWeights } from "../algorithms/algorithm.ts";
import type { LearningChunk, LearningTrajectory } from "../algorithms/trajectory.ts";
import { layOut } from "../engine/datum.ts";
import type { RlStage } from "../recipe/recipe.ts";
import type { Learner, WeightedSequence } from "./learner.ts";

/**
 * One round's update: returns with safety in them, log-probabilities of the behaviour version by the training engine, weights of
 * every token (the whole of the learning mathematics), optimiser steps.
 */
export interface UpdateResult {
  readonly steps: number;
  readonly learntTrajectories: number;
  readonly trainedTokens: number;
  readonly maskedChunks: number;
  readonly meanRatio: number | null;
  /** Mean over the optimiser steps, before clipping. */
  readonly gradNorm: number | null;
  readonly forwardSeconds: number;
  readonly backwardSeconds: number;
}

/** A trajectory on its way to the mathematics. `logpOld[k]` are the log-probabilities of chunk k's tokens. */
interface Prepared {
  readonly trajectory: Trajectory;
  readonly learning: LearningTrajectory;
}

export async function updatePolicy(
  learner: Learner,
  groups: readonly (readonly Trajectory[])[],
  stage: RlStage,
  clock: Clock,
  signal: AbortSignal,
): Promise<UpdateResult> {
  const t0 = clock.monotonicMs();
  const prepared = await prepare(learner, groups, stage, signal);
  let forwardMs = clock.monotonicMs() - t0;
  let backwardMs = 0;
  let steps = 0;
  let learnt = 0;
  let trainedTokens = 0;
  let masked = 0;
  let units = 0;
  const ratios: number[] = [];
  const norms: number[] = [];
  for (const minibatch of slices(prepared, stage.minibatches)) {
    const t1 = clock.monotonicMs();
    const current =
      steps === 0 ? minibatch : await withThetaLogprobs(learner, minibatch, stage.algorithm, signal);
    const { weights, diagnostics } = tokenWeights(
      current.map((item) => item.learning),
      stage.algorithm,
    );
    const sequences = current
      .flatMap((item, i) => weightedSequences(item.trajectory, weights[i]!))
      .filter((sequence) => sequence.weights.some((weight) => weight !== 0));
    const t2 = clock.monotonicMs();
    forwardMs += t2 - t1;
    masked += Math.round(diagnostics.maskFraction * diagnostics.trainableChunks);
    units += diagnostics.trainableChunks;
    ratios.push(diagnostics.meanRho);
    if (sequences.length === 0) continue;
    const result = await learner.step(sequences, stage.adam, signal);
    backwardMs += clock.monotonicMs() - t2;
    steps++;
    learnt += sequences.length;
    trainedTokens += sequences.reduce((sum, sequence) => sum + sequence.tokens.length, 0);
    norms.push(result.gradNorm);
  }
  return {
    steps,
    learntTrajectories: learnt,
    trainedTokens,
    maskedChunks: units === 0 ? 0 : masked,
    meanRatio: ratios.length === 0 ? null : mean(ratios),
    gradNorm: norms.length === 0 ? null : mean(norms),
    forwardSeconds: forwardMs / 1000,
    backwardSeconds: backwardMs / 1000,
  };
}

/** Rewards, penalties, and one forward pass over the trajectories that can have a gradient. */
async function prepare(
  learner: Learner,
  groups: readonly (readonly Trajectory[])[],
  stage: RlStage,
  signal: AbortSignal,
): Promise<Prepared[]> {
  const items = groups.flatMap((group, g) =>
    group.map((trajectory) => ({ trajectory, outcome: outcomeOf(trajectory, stage.safety), g })),
  );
  const needed = items.filter(({ outcome }) => canLearn(outcome, stage.algorithm));
  const logpOf = await chunkLogprobs(
    learner,
    needed.map((item) => item.trajectory),
    signal,
  );
  return items.map(({ trajectory, outcome, g }) => ({
    trajectory,
    learning: {
      ...outcome,
      prefixLength: 0,
      group: String(g),
      chunks: learningChunks(trajectory, logpOf.get(trajectory.episode)),
    },
  }));
}

type Outcome = Pick<LearningTrajectory, "rFinal" | "chunkReturns">;

/** The reward that learning sees: the verifier's, unless guard's penalty overrides it or the return of some chunks. */
function outcomeOf(trajectory: Trajectory, policy: PenaltyPolicy): Outcome {
  const reward = trajectory.verdict?.reward ?? 0;
  const penalty = penaltyOf(policy, trajectory.alerts, trajectory.chunks.length);
  const rFinal = penalty.kind === "override" ? penalty.terminalReward : reward >= 1 ? reward : 0;
  return penalty.kind === "unchanged" || penalty.chunkReturns === null
    ? { rFinal }
    : { rFinal, chunkReturns: penalty.chunkReturns };
}

const canLearn = (outcome: Outcome, algorithm: Algorithm): boolean =>
  algorithm.name === "grpo" ||
  outcome.rFinal !== 0 ||
  outcome.chunkReturns !== undefined ||
  (algorithm.name !== "raft" && algorithm.failReward !== 0);

/** Log-probabilities under the current weights, by episode and chunk: `result.get(episode)[k]` has one entry a token of chunk k. */
async function chunkLogprobs(
  learner: Learner,
  trajectories: readonly Trajectory[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, readonly (readonly number[])[]>> {
  const segments = trajectories.map((trajectory) => segmentsOf(trajectory.chunks));
  const rows = await learner.logprobs(segments.flat().map(tokensOf), signal);
  let next = 0;
  return new Map(
    trajectories.map((trajectory, i) => [
      trajectory.episode,
      segments[i]!.flatMap((segment) => chunksOfRow(segment, rows[next++]!)),
    ]),
  );
}

/** Cuts the row of one segment into its chunks, context left out. */
function chunksOfRow(segment: readonly Chunk[], row: readonly number[]): number[][] {
  let position = 0;
  return segment.map((chunk) => {
    const start = position + chunk.contextTokens.length;
    position = start + chunk.tokens.length;
    return row.slice(start, position);
  });
}

/** Without `logp` the trajectory cannot have a gradient, and the sampler's log-probabilities stand in for the engine's. */
const learningChunks = (
  trajectory: Trajectory,
  logp: readonly (readonly number[])[] | undefined,
): LearningChunk[] =>
  trajectory.chunks.map((chunk, k) => ({
    tokens: chunk.tokens.length,
    logpOld: logp?.[k] ?? chunk.logprobs,
    logpSampler: chunk.logprobs,
    source: chunk.source,
  }));

async function withThetaLogprobs(
  learner: Learner,
  items: readonly Prepared[],
  algorithm: Algorithm,
  signal: AbortSignal,
): Promise<readonly Prepared[]> {
  const learning = items.map((item) => item.learning);
  if (!needsThetaLogprobs(learning, algorithm)) return items;
  const needed = items.filter((item) => canLearn(item.learning, algorithm));
  const thetaOf = await chunkLogprobs(
    learner,
    needed.map((item) => item.trajectory),
    signal,
  );
  return items.map((item) => {
    const theta = thetaOf.get(item.trajectory.episode);
    if (theta === undefined) return item;
    const chunks = item.learning.chunks.map((chunk, k) => ({ ...chunk, logpTheta: theta[k]! }));
    return { ...item, learning: { ...item.learning, chunks } };
  });
}

/** One sequence a segment, with weight 0 on everything that the policy did not write. */
function weightedSequences(
  trajectory: Trajectory,
  chunkWeights: readonly (readonly number[])[],
): WeightedSequence[] {
  let next = 0;
  return segmentsOf(trajectory.chunks).map((segment) => {
    const from = next;
    next += segment.length;
    return layOut(segment, chunkWeights.slice(from, next));
  });
}

/** `count` slices of nearly equal length, in order; fewer when there are not enough items. */
function slices<T>(items: readonly T[], count: number): T[][] {
  const size = Math.max(1, Math.ceil(items.length / count));
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
