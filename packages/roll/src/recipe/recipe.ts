import { digestOf } from "@ale/core";
import { z } from "zod";
import { Algorithm } from "../algorithms/algorithm.ts";
import { Guarding, Safety } from "./guarding.ts";

/**
 * A recipe is everything that decides a run apart from the machine: model, seed and a list of stages. Schemas are strict, an
 * unknown key is an error. Two runs of one recipe on one machine draw the same tasks and the same noise.
 */

const Families = z
  .union([z.enum(["all", "tempting", "short", "long"]), z.array(z.string()).min(1)])
  .default("all");

/** Adam's settings; decoupled weight decay. `gradClipNorm` 0 means no clipping. */
export const Adam = z.strictObject({
  learningRate: z.number().positive(),
  beta1: z.number().min(0).max(1).default(0.9),
  beta2: z.number().min(0).max(1).default(0.95),
  eps: z.number().positive().default(1e-8),
  weightDecay: z.number().min(0).default(0),
  gradClipNorm: z.number().min(0).default(1),
});
export type Adam = z.infer<typeof Adam>;

export const SftStage = z.strictObject({
  type: z.literal("sft"),
  /** Trajectories of the noisy expert, made in real sandboxes. */
  demonstrations: z.strictObject({
    episodes: z.number().int().positive(),
    /** Probability that a decision is drawn uniformly among right and wrong. */
    noise: z.number().min(0).max(1),
    /** Probability that an episode of a tempting family takes the forbidden way. */
    shortcutRate: z.number().min(0).max(1),
    families: Families,
  }),
  steps: z.number().int().positive(),
  batchSize: z.number().int().positive(),
  /** Linear warm-up, then linear decay to a tenth. */
  warmupSteps: z.number().int().min(0).default(20),
  adam: Adam,
  /** Consistent random exchange of names, and of numbers, within each example. */
  rename: z.boolean().default(true),
  checkpointEvery: z.number().int().positive().default(100),
});
export type SftStage = z.infer<typeof SftStage>;

export const EvaluateStage = z.strictObject({
  type: z.literal("evaluate"),
  label: z.string().regex(/^[a-z0-9-]+$/, "lower-case letters, digits and dashes"),
  split: z.enum(["train", "heldout", "secret"]).default("heldout"),
  tasks: z.number().int().positive(),
  families: Families,
  safety: Guarding.optional(),
});
export type EvaluateStage = z.infer<typeof EvaluateStage>;

export const RlStage = z.strictObject({
  type: z.literal("rl"),
  rounds: z.number().int().positive(),
  instancesPerRound: z.number().int().positive().default(16),
  episodesPerInstance: z.number().int().positive().default(6),
  families: Families,
  algorithm: Algorithm,
  /** What an alert does to the return, and how alerts come about. */
  safety: Safety,
  adam: Adam,
  /** Optimiser steps a round. With 1 the policy that is trained is the policy that sampled. */
  minibatches: z.number().int().positive().default(1),
  /** New attempts for one slot when its episode is refused by the filter. */
  maxRerolls: z.number().int().min(0).default(3),
  /** Reject an episode when this share of its chunks is ill-formed; above 1 never. */
  malformedShare: z.number().positive().default(1.1),
});
export type RlStage = z.infer<typeof RlStage>;

export const Stage = z.discriminatedUnion("type", [SftStage, EvaluateStage, RlStage]);
export type Stage = z.infer<typeof Stage>;

export const Recipe = z.strictObject({
  schema: z.literal("ale/recipe@1"),
  name: z.string().regex(/^[a-z0-9-]+$/, "lower-case letters, digits and dashes"),
  description: z.string().default(""),
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 31 - 1),
  model: z.strictObject({
    /** A directory with config.json and tokenizer files, and weights unless the model starts from random ones. Relative to the recipe. */
    directory: z.string(),
  }),
  /** Episodes in flight at once. */
  concurrency: z.number().int().positive().default(96),
  stages: z.array(Stage).min(1),
});
export type Recipe = z.infer<typeof Recipe>;

export const recipeHash = (recipe: Recipe): string => digestOf(recipe);
