export * from "./algorithms/algorithm.ts";
export * from "./algorithms/baselines.ts";
export * from "./algorithms/imitation.ts";
export * from "./algorithms/ipa.ts";
export * from "./algorithms/ratios.ts";
export * from "./algorithms/returns.ts";
export * from "./algorithms/sft.ts";
export * from "./algorithms/trajectory.ts";
export {
  type Datum,
  layOut,
  scoringDatum,
  type WeightedChunk,
  weightedDatum,
} from "./engine/datum.ts";
export * from "./engine/locate.ts";
export {
  ENGINE_ALLOCATOR,
  type EngineExit,
  type EngineOptions,
  type EngineProcess,
  startEngine,
} from "./engine/process.ts";
export type {
  AdamSettings,
  CreateModel,
  LossResult,
  OptimResultMetrics,
  SavedWeights,
  TinkerClient,
  TinkerModel,
  TinkerSample,
  TinkerSampleRequest,
  TinkerSampler,
  TinkerSession,
} from "./engine/tinker.ts";
export { connectTinker, type TinkerClientOptions } from "./engine/tinker-client.ts";
export { engineUpstream } from "./engine/upstream.ts";
export { type Approvers, approvalMs, Guarding, Safety, watchOf } from "./recipe/guarding.ts";
export { parseRecipe, type RecipeFault } from "./recipe/parse.ts";
export {
  Adam,
  EvaluateStage,
  Recipe,
  RlStage,
  recipeHash,
  SftStage,
  Stage,
} from "./recipe/recipe.ts";
export {
  type Actor,
  type EpisodeDeps,
  type EpisodeRequest,
  type FinishedEpisode,
  runEpisode,
} from "./rollout/episode.ts";
export {
  type GroupRequest,
  type RolloutRequest,
  type RolloutResult,
  rolloutGroups,
  trajectoriesOf,
} from "./rollout/group-rollout.ts";
export { sandboxRuntime } from "./rollout/sandbox-runtime.ts";
export { demonstrationTasks, evaluationTasks, familiesOf, roundTasks } from "./rollout/tasks.ts";
export { plainWatch, rulesWith, toolFault, type Watch, watchEverything } from "./rollout/watch.ts";
export { figuresByFamily, figuresOf, passed, violated } from "./run/figures.ts";
export { type Leftover, leftoversOf, pruneRun } from "./run/prune.ts";
export { type RunDeps, type RunRequest, runRecipe } from "./run/run.ts";
export { isRunLocked, lockRun } from "./run/run-lock.ts";
export {
  type EvaluationResult,
  initialRunState,
  loadRunState,
  type PassFigures,
  type RoundMetrics,
  RunState,
  type SftResult,
} from "./run/run-state.ts";
export {
  openWorkbench,
  runDirectory,
  type TrainRequest,
  type Workbench,
  type WorkbenchOptions,
} from "./run/workbench.ts";
export type { ProgressEvent } from "./stages/context.ts";
export { engineLearner } from "./stages/engine-learner.ts";
export type { Learner, SavedCheckpoint, StepResult, WeightedSequence } from "./stages/learner.ts";
export { type UpdateResult, updatePolicy } from "./stages/update.ts";
