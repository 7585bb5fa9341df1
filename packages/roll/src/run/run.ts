import { randomBytes } from "node:crypto";
import { cpSync, existsSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { type Approvers, watchOf } from "../recipe/guarding.ts";
import { type Recipe, recipeHash, type Stage } from "../recipe/recipe.ts";
import type { EpisodeDeps } from "../rollout/episode.ts";
import { familiesOf } from "../rollout/tasks.ts";
import type { ProgressEvent, StageContext } from "../stages/context.ts";
import { evaluate } from "../stages/evaluate.ts";
import type { Learner } from "../stages/learner.ts";
import { reinforce } from "../stages/rl.ts";
import { sft } from "../stages/sft.ts";
import { metricsFile } from "./metrics-file.ts";
import { lockRun } from "./run-lock.ts";
import { initialRunState, loadRunState, type RunState, replaceFile, saveRunState } from "./run-state.ts";

/**
 * Runs a recipe in its own directory, or goes on where an earlier sitting stopped. Kill it at any moment and start it again: no
 * sealed episode is lost and none is trained on twice.
 */
export interface RunRequest {
  readonly recipe: Recipe;
  /** Name of the run; its directory is `<directory>`. */
  readonly run: string;
  readonly directory: string;
  readonly modelDirectory: string;
  /** What the recipe's rule packs are relative to. Default: the working directory. */
  readonly recipeDirectory?: string;
  /** Who approves calls where the recipe asks for it. Default: nobody. */
  readonly approvers?: Approvers;
  /** Engine path of weights to begin with instead of the model's own. */
  readonly startFrom?: string;
  /** Groups of token ids that renaming permutes: names, numbers. */
  readonly interchangeable: readonly (readonly number[])[];
  readonly onProgress: (event: ProgressEvent) => void;
}

/** `open(checkpoint)` gives a learner at a saved state, or at the recipe's initial weights for null. */
export interface RunDeps extends EpisodeDeps {
  readonly open: (checkpoint: string | null, signal: AbortSignal) => Promise<Learner>;
}

/** The newest, and one before it in case the newest is damaged. */
const KEPT_CHECKPOINTS = 2;

export async function runRecipe(request: RunRequest, deps: RunDeps, signal: AbortSignal): Promise<RunState> {
  const { directory, recipe } = request;
  using _lock = lockRun(directory);
  let state = resumedState(request);
  const secretSalt = secretSaltOf(directory);
  // Read once, before anything costs time: a rule pack that is wrong is wrong at the start.
  const watches = recipe.stages.map((stage) =>
    watchOf(
      stage.type === "sft" ? undefined : stage.safety,
      request.recipeDirectory ?? ".",
      request.approvers,
    ),
  );
  const learner = await deps.open(state.checkpoint ?? request.startFrom ?? null, signal);
  const metrics = metricsFile(directory);
  const commit = (change: Partial<RunState>): void => {
    state = { ...state, ...change };
    const surplus = state.kept.slice(0, -KEPT_CHECKPOINTS);
    state = { ...state, kept: state.kept.slice(-KEPT_CHECKPOINTS) };
    saveRunState(directory, state);
    // Only now: until the new state is on disk, a crash goes back to the old one.
    for (const old of surplus) rmSync(old, { recursive: true, force: true });
    metrics.sync(state);
  };
  metrics.sync(state);
  for (let index = state.stage; index < recipe.stages.length; index++) {
    signal.throwIfAborted();
    const stage = recipe.stages[index]!;
    const started = deps.clock.monotonicMs();
    const spend = (): RunState["stageSeconds"] => ({
      ...state.stageSeconds,
      [index]: (state.stageSeconds[index] ?? 0) + (deps.clock.monotonicMs() - started) / 1000,
    });
    const context: StageContext = {
      deps,
      learner,
      run: request.run,
      seed: recipe.seed,
      stageIndex: index,
      concurrency: recipe.concurrency,
      secretSalt,
      watch: watches[index]!,
      families: familiesOf,
      state: () => state,
      commit,
      async checkpoint(saveSignal) {
        const version = state.version + 1;
        const { path, directory: place } = await learner.save(`v${version}`, saveSignal);
        return { version, checkpoint: path, kept: place === null ? state.kept : [...state.kept, place] };
      },
      progress: (event) => {
        if (event.type === "sft") metrics.step(event.progress);
        request.onProgress(event);
      },
    };
    request.onProgress({ type: "stage", stage: index, label: labelOf(stage), total: recipe.stages.length });
    const results = await runStage(context, stage, request.interchangeable, signal);
    commit({ ...results, stage: index + 1, step: 0, stageSeconds: spend() });
  }
  if (state.checkpoint !== null) await exportModel(learner, request, signal);
  return state;
}

/** Leaves `<directory>/model`: weights, configuration and tokenizer, loadable by ALE and by others. */
async function exportModel(learner: Learner, request: RunRequest, signal: AbortSignal): Promise<void> {
  const target = join(request.directory, "model");
  if (existsSync(join(target, "config.json"))) return;
  const exported = await learner.export("final", signal);
  if (exported === null) return;
  const unfinished = `${target}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  for (const source of [request.modelDirectory, exported])
    cpSync(source, unfinished, { recursive: true, filter: (path) => !path.endsWith("provenance.json") });
  rmSync(target, { recursive: true, force: true });
  renameSync(unfinished, target);
}

async function runStage(
  context: StageContext,
  stage: Stage,
  interchangeable: readonly (readonly number[])[],
  signal: AbortSignal,
): Promise<Partial<RunState>> {
  switch (stage.type) {
    case "sft":
      return { sft: [...context.state().sft, await sft(context, stage, interchangeable, signal)] };
    case "evaluate":
      return { evaluations: [...context.state().evaluations, await evaluate(context, stage, signal)] };
    case "rl":
      await reinforce(context, stage, signal);
      return {};
    default:
      return stage satisfies never;
  }
}

const labelOf = (stage: Stage): string =>
  stage.type === "evaluate" ? `evaluate ${stage.label}` : stage.type;

function resumedState(request: RunRequest): RunState {
  const hash = recipeHash(request.recipe);
  const state = loadRunState(request.directory);
  if (state === null) {
    const fresh = initialRunState(request.run, hash, request.modelDirectory);
    replaceFile(join(request.directory, "recipe.json"), `${JSON.stringify(request.recipe, null, 2)}\n`);
    saveRunState(request.directory, fresh);
    return fresh;
  }
  if (state.recipeHash === hash) return state;
  throw new AleError("recipe-changed", `the run "${request.run}" was begun with another recipe`, {
    next: `give the new run another name, or undo the change (the recipe it was begun with is ${join(request.directory, "recipe.json")})`,
  });
}

/** Drawn once a run, so that nobody can have seen the secret tasks before, and kept, so that a resumed run meets the same ones. */
function secretSaltOf(directory: string): string {
  const path = join(directory, "secret-salt");
  if (!existsSync(path)) replaceFile(path, randomBytes(16).toString("hex"));
  return readFileSync(path, "utf8");
}
