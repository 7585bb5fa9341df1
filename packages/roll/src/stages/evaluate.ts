import { seedOf } from "@ale/core";
import type { EvaluateStage } from "../recipe/recipe.ts";
import { trajectoriesOf } from "../rollout/group-rollout.ts";
import { evaluationTasks } from "../rollout/tasks.ts";
import { figuresByFamily, figuresOf, passed } from "../run/figures.ts";
import type { EvaluationResult } from "../run/run-state.ts";
import type { StageContext } from "./context.ts";
import { oneEach } from "./one-each.ts";

/** One episode on each task of a fixed set. Episodes whose environment failed are tried again; what remains refused is left out of n. */
export async function evaluate(
  context: StageContext,
  stage: EvaluateStage,
  signal: AbortSignal,
): Promise<EvaluationResult> {
  const { deps, seed } = context;
  const started = deps.clock.monotonicMs();
  const version = context.state().version;
  const tasks = evaluationTasks(
    context.families(stage.families),
    stage.split,
    stage.tasks,
    context.secretSalt,
  );
  const upstream = await context.learner.sampler(version, signal);
  const result = await oneEach(
    context,
    {
      tasks,
      prefix: `s${context.stageIndex}/eval`,
      version,
      purpose: "eval",
      actor: (group, member, attempt) => ({
        type: "policy",
        version,
        upstream,
        seed: seedOf(`${seed}/${group}/${member}/${attempt}`),
      }),
      concurrency: context.concurrency,
      watch: context.watch,
      label: `evaluate ${stage.label}`,
    },
    signal,
  );
  const trajectories = trajectoriesOf(result);
  return {
    type: "evaluate",
    label: stage.label,
    split: stage.split,
    version,
    overall: figuresOf(trajectories),
    families: figuresByFamily(trajectories),
    passed: Object.fromEntries(
      trajectories.map((trajectory) => [trajectory.instance.id, passed(trajectory)]),
    ),
    seconds: (deps.clock.monotonicMs() - started) / 1000,
    episodes: trajectories.map((trajectory) => trajectory.episode),
  };
}
