import { seedOf, type Trajectory } from "@ale/core";
import { defaultFilter } from "@ale/data";
import type { RlStage } from "../recipe/recipe.ts";
import type { FinishedEpisode } from "../rollout/episode.ts";
import { rolloutGroups } from "../rollout/group-rollout.ts";
import { roundTasks } from "../rollout/tasks.ts";
import { figuresByFamily, figuresOf } from "../run/figures.ts";
import { type Recovered, recoverEpisodes } from "../run/recover.ts";
import type { RoundMetrics } from "../run/run-state.ts";
import type { StageContext } from "./context.ts";
import { updatePolicy } from "./update.ts";

/**
 * Reinforcement learning in rounds: sample groups with the current policy, compute the weights of every token, follow them, save,
 * commit. A round is the unit of resumption: until it is committed its sealed episodes are reused, after that they are never
 * trained on again.
 */
export async function reinforce(context: StageContext, stage: RlStage, signal: AbortSignal): Promise<void> {
  const first = context.state().step;
  for (let round = first; round < stage.rounds; round++) {
    // Only the round in which an earlier sitting was interrupted has episodes already.
    const recovered =
      round === first
        ? await recoverEpisodes(
            context.deps.store,
            context.run,
            prefixOf(context, round),
            context.state().version,
          )
        : NONE;
    const metrics = await oneRound(context, stage, round, recovered, signal);
    const { figures } = metrics;
    context.progress({
      type: "tick",
      label: "rl",
      done: round + 1,
      total: stage.rounds,
      note: `pass ${(figures.passes / Math.max(1, figures.n)).toFixed(2)}  violations ${(figures.violations / Math.max(1, figures.n)).toFixed(2)}`,
    });
  }
}

const NONE: Recovered = new Map();

const prefixOf = ({ stageIndex }: StageContext, round: number): string =>
  `s${stageIndex}/r${String(round).padStart(4, "0")}`;

async function oneRound(
  context: StageContext,
  stage: RlStage,
  round: number,
  recovered: Recovered,
  signal: AbortSignal,
): Promise<RoundMetrics> {
  const { deps, learner, seed, stageIndex } = context;
  const clock = deps.clock;
  const version = context.state().version;
  const prefix = prefixOf(context, round);

  const t0 = clock.monotonicMs();
  const upstream = await learner.sampler(version, signal);
  const tasks = roundTasks(
    context.families(stage.families),
    seed,
    stageIndex,
    round,
    stage.instancesPerRound,
  );
  const rollout = await rolloutGroups(
    deps,
    {
      groups: tasks.map((task, i) => ({
        task,
        group: `${prefix}/g${i}`,
        finished: recovered.get(`${prefix}/g${i}`) ?? [],
      })),
      episodesPerGroup: stage.episodesPerInstance,
      run: context.run,
      purpose: "train",
      actor: (group, member, attempt) => ({
        type: "policy",
        version,
        upstream,
        seed: seedOf(`${seed}/${group}/${member}/${attempt}`),
      }),
      concurrency: context.concurrency,
      maxRerolls: stage.maxRerolls,
      filter: { ...defaultFilter, malformedShare: stage.malformedShare },
      watch: context.watch,
    },
    signal,
  );
  const t1 = clock.monotonicMs();
  const groups = rollout.groups.map((group) => group.map((episode) => episode.trajectory));
  const update = await updatePolicy(learner, groups, stage, clock, signal);

  const t2 = clock.monotonicMs();
  const saved = update.steps > 0 ? await context.checkpoint(signal) : {};
  const t3 = clock.monotonicMs();
  const episodes = rollout.groups.flat();
  const trajectories = episodes.map((episode) => episode.trajectory);
  const metrics: RoundMetrics = {
    type: "round",
    stage: stageIndex,
    round,
    version,
    figures: figuresOf(trajectories),
    families: figuresByFamily(trajectories),
    uniformGroups: groups.filter(isUniform).length,
    rerolled: rollout.rerolled,
    rejected: { ...rollout.rejected },
    learntTrajectories: update.learntTrajectories,
    sampledTokens: sampledTokens(trajectories),
    trainedTokens: update.trainedTokens,
    maskedChunks: update.maskedChunks,
    meanRatio: update.meanRatio,
    gradNorm: update.gradNorm,
    seconds: {
      rollout: (t1 - t0) / 1000,
      forward: update.forwardSeconds,
      backward: update.backwardSeconds,
      save: (t3 - t2) / 1000,
    },
    episodes: episodes.map((episode: FinishedEpisode) => ({
      episode: episode.trajectory.episode,
      head: episode.head,
    })),
  };
  context.commit({ step: round + 1, ...saved, rounds: [...context.state().rounds, metrics] });
  return metrics;
}

const isUniform = (group: readonly Trajectory[]): boolean =>
  new Set(group.map((trajectory) => (trajectory.verdict?.reward ?? 0) >= 1)).size <= 1;

const sampledTokens = (trajectories: readonly Trajectory[]): number =>
  trajectories.reduce(
    (sum, trajectory) => sum + trajectory.chunks.reduce((inner, chunk) => inner + chunk.tokens.length, 0),
    0,
  );
