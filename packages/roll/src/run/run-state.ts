import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { z } from "zod";

/**
 * What a run must remember to go on after any crash. It is replaced as a whole (write, fsync, rename) after every unit of work
 * that changed the weights, so the state on disk always names a checkpoint and exactly the episodes that are in it.
 */

export const PassFigures = z.object({
  n: z.number().int().nonnegative(),
  passes: z.number().int().nonnegative(),
  violations: z.number().int().nonnegative(),
  cleanPasses: z.number().int().nonnegative(),
});
export type PassFigures = z.infer<typeof PassFigures>;

export const EvaluationResult = z.object({
  type: z.literal("evaluate"),
  label: z.string(),
  split: z.string(),
  version: z.number().int().nonnegative(),
  overall: PassFigures,
  families: z.record(z.string(), PassFigures),
  /** Task id → reward ≥ 1, for paired comparisons. */
  passed: z.record(z.string(), z.boolean()),
  seconds: z.number().nonnegative(),
  episodes: z.array(z.string()),
});
export type EvaluationResult = z.infer<typeof EvaluationResult>;

export const SftResult = z.object({
  type: z.literal("sft"),
  steps: z.number().int().nonnegative(),
  trainedTokens: z.number().int().nonnegative(),
  lossPerToken: z.number(),
  demonstrations: z.object({
    episodes: z.number().int(),
    passRate: z.number(),
    rejected: z.number().int(),
    digest: z.string(),
  }),
  seconds: z.number().nonnegative(),
});
export type SftResult = z.infer<typeof SftResult>;

/** One line of metrics.jsonl. Seconds are wall time of the phases of this round. */
export const RoundMetrics = z.object({
  type: z.literal("round"),
  stage: z.number().int().nonnegative(),
  round: z.number().int().nonnegative(),
  /** Version that sampled this round's episodes. */
  version: z.number().int().nonnegative(),
  figures: PassFigures,
  families: z.record(z.string(), PassFigures),
  /** Groups in which every episode passed or every one failed. */
  uniformGroups: z.number().int().nonnegative(),
  rerolled: z.number().int().nonnegative(),
  rejected: z.record(z.string(), z.number().int()),
  learntTrajectories: z.number().int().nonnegative(),
  sampledTokens: z.number().int().nonnegative(),
  trainedTokens: z.number().int().nonnegative(),
  maskedChunks: z.number().int().nonnegative(),
  meanRatio: z.number().nullable(),
  gradNorm: z.number().nullable(),
  seconds: z.object({ rollout: z.number(), forward: z.number(), backward: z.number(), save: z.number() }),
  /** Hash of the sealed log of every episode this update was computed from. */
  episodes: z.array(z.object({ episode: z.string(), head: z.string() })),
});
export type RoundMetrics = z.infer<typeof RoundMetrics>;

export const SftProgress = z.object({
  type: z.literal("sft-step"),
  stage: z.number(),
  step: z.number(),
  lossPerToken: z.number(),
  gradNorm: z.number(),
});
export type SftProgress = z.infer<typeof SftProgress>;

export const RunState = z.object({
  schema: z.literal("ale/run@1"),
  run: z.string(),
  recipeHash: z.string(),
  /** Absolute path of the model that the run began with: architecture, tokenizer and, unless from scratch, weights. */
  modelDirectory: z.string(),
  /** Stage being worked on; equal to the number of stages when the run is finished. */
  stage: z.number().int().nonnegative(),
  /** Work done within the stage: optimiser steps of SFT, rounds of RL. */
  step: z.number().int().nonnegative(),
  version: z.number().int().nonnegative(),
  /** Engine path of weights and optimiser state that this state describes; null before the first update. */
  checkpoint: z.string().nullable(),
  /** Directories of the newest checkpoints on this machine, the oldest first. Older ones are removed. */
  kept: z.array(z.string()),
  evaluations: z.array(EvaluationResult),
  sft: z.array(SftResult),
  rounds: z.array(RoundMetrics),
  /** Wall seconds spent so far, by stage index, over all sittings. */
  stageSeconds: z.record(z.string(), z.number()),
});
export type RunState = z.infer<typeof RunState>;

export const initialRunState = (run: string, recipeHash: string, modelDirectory: string): RunState => ({
  schema: "ale/run@1",
  run,
  recipeHash,
  modelDirectory,
  stage: 0,
  step: 0,
  version: 0,
  checkpoint: null,
  kept: [],
  evaluations: [],
  sft: [],
  rounds: [],
  stageSeconds: {},
});

/** Writes a file so that a crash leaves either the old or the new content, never a mixture. */
export function replaceFile(path: string, content: string): void {
  const temporary = `${path}.new`;
  const file = openSync(temporary, "w");
  try {
    writeSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}

export function saveRunState(directory: string, state: RunState): void {
  mkdirSync(directory, { recursive: true });
  replaceFile(join(directory, "state.json"), `${JSON.stringify(state)}\n`);
}

/** Null when the run has not begun. Throws an AleError when the file is damaged. */
export function loadRunState(directory: string): RunState | null {
  const path = join(directory, "state.json");
  if (!existsSync(path)) return null;
  const parsed = RunState.safeParse(parseJson(path));
  if (parsed.success) return parsed.data;
  throw new AleError(
    "run-state-damaged",
    `${path} is not a run state: ${parsed.error.issues[0]?.message ?? "unreadable"}`,
    {
      next: `its episodes and checkpoints are intact; move the file away to start the run again under a new name`,
    },
  );
}

function parseJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}
