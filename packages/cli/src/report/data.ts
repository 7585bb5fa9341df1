import { z } from "zod";

/**
 * Everything that the report of a run shows, as one plain value: what `ale quickstart` computes, what is kept beside the report as
 * summary.json, and the only thing that `renderReport` reads. Rates and intervals are fractions in [0, 1].
 */

const rate = z.number().min(0).max(1);
const count = z.number().int().nonnegative();
const seconds = z.number().nonnegative();

/** 95 % Wilson interval, [low, high]. */
export const RateInterval = z.tuple([rate, rate]);
export type RateInterval = z.infer<typeof RateInterval>;

/** Share of `n` episodes. */
const Share = z.object({ n: count, pass: rate });

/** One RL round. Its episodes were sampled, on fresh tasks, by the policy as it was before the round's update. */
export const CurvePoint = z.object({
  round: count,
  onPolicyPass: rate,
  /** Wilson interval of `onPolicyPass`. */
  lo: rate,
  hi: rate,
  episodes: count,
  meanReward: z.number(),
  /** null when the round had nothing to learn from. */
  gradNorm: z.number().nonnegative().nullable(),
  violationRate: rate,
  /** Passed without a violation. */
  cleanPass: rate,
  /** Groups whose episodes all passed or all failed, and which therefore carried no signal. */
  droppedGroups: count,
});
export type CurvePoint = z.infer<typeof CurvePoint>;

export const FamilyRow = z.object({ family: z.string(), domain: z.string(), before: Share, after: Share });
export type FamilyRow = z.infer<typeof FamilyRow>;

/** Held-out tasks of the families in which a forbidden short cut is at hand. */
export const SafetyFigures = z.object({ n: count, pass: rate, violation: rate, cleanPass: rate });
export type SafetyFigures = z.infer<typeof SafetyFigures>;

export const SafetyArm = z.object({
  before: SafetyFigures,
  after: SafetyFigures,
  curve: z.array(z.object({ round: count, pass: rate, violation: rate, cleanPass: rate })),
});
export type SafetyArm = z.infer<typeof SafetyArm>;

export const ExampleAlert = z.object({
  rule: z.string(),
  technique: z.string(),
  severity: z.string(),
  evidence: z.string(),
});
export type ExampleAlert = z.infer<typeof ExampleAlert>;

/** An episode worth looking at, cut to what fits on a page; the log has all of it. */
export const ExampleEpisode = z.object({
  /** Why it is shown, e.g. "Before: a task it failed". */
  title: z.string(),
  episode: z.string(),
  family: z.string(),
  instruction: z.string(),
  chunks: z.array(z.object({ action: z.string(), observation: z.string(), alerts: z.array(ExampleAlert) })),
  reward: z.number().nullable(),
});
export type ExampleEpisode = z.infer<typeof ExampleEpisode>;

export const QuickstartReport = z.object({
  schema: z.literal("ale/report@1"),
  title: z.string(),
  /** Name of the run under $ALE_HOME/runs. */
  run: z.string(),
  /** ISO 8601. */
  startedAt: z.string(),
  seed: z.number().int().nonnegative(),
  /** What it ran on, in the order to be shown, e.g. {processor, processors, memory, system}. */
  machine: z.record(z.string(), z.string()),
  /** e.g. {ale, node, python, torch, transformers, crun, image}. */
  versions: z.record(z.string(), z.string()),
  headline: z.object({
    passBefore: rate,
    passBeforeInterval: RateInterval,
    passAfter: rate,
    passAfterInterval: RateInterval,
    heldoutTasks: count,
    /** All episodes of the run, evaluation and the safety pair included. */
    episodes: count,
    wallSeconds: seconds,
  }),
  curve: z.array(CurvePoint),
  families: z.array(FamilyRow),
  /** null when the run had no safety pair. */
  safety: z.object({ plain: SafetyArm, safe: SafetyArm }).nullable(),
  /** In order. Installation steps run side by side, so the sum may exceed the wall time. */
  phases: z.array(z.object({ name: z.string(), seconds })),
  throughput: z.object({
    sampledTokensPerSecond: z.number().nonnegative(),
    episodesPerSecond: z.number().nonnegative(),
    trainTokensPerSecond: z.number().nonnegative(),
  }),
  examples: z.array(ExampleEpisode),
  /** Name → value, in the order to be shown: recipe hash, checkpoint digest, digest over the logs, … */
  provenance: z.record(z.string(), z.string()),
});
export type QuickstartReport = z.infer<typeof QuickstartReport>;
