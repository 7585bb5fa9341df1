import { Response, RiskCategory, Severity } from "@ale/core";
import { z } from "zod";
import type { Scalar } from "./field.ts";

/**
 * A detection rule as it is written: Sigma's YAML (specification 2.0) over telemetry records, with an `ale` section of our own for the
 * taxonomy of the paper, the response, and the fixtures that the rule must and must not fire on.
 */

const scalar: z.ZodType<Scalar> = z.union([z.string(), z.number(), z.boolean(), z.null()]);
const values = z.union([scalar, z.array(scalar)]);
const map = z.record(z.string(), values);
/** A map (all fields), a list of maps (one of them), or a list of words (keywords are refused: telemetry has no message). */
const selection = z.union([map, z.array(map).min(1)]);
export type Selection = z.infer<typeof selection>;

/** Records are partial: a fixture only says what matters. */
const record = z.looseObject({ kind: z.string() });
/** One record, or a sequence with times in `at` (milliseconds). */
const fixture = z.union([record, z.array(record).min(1)]);

const Own = z.strictObject({
  response: Response.default("record"),
  /** Takes the place of the rule of this name in a pack that was read before. Without it two rules of one name are refused. */
  overrides: z.literal(true).optional(),
  /** Rules that tell of one kind of act by different signs share a family; by default a rule is its own. */
  family: z
    .string()
    .regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/, "lower-case words joined by hyphens, e.g. tunnel")
    .optional(),
  /** Not a violation by itself where the instance names it as allowed (`allowRules`). */
  note: z.string().optional(),
  fixtures: z
    .strictObject({ fires: z.array(fixture).default([]), silent: z.array(fixture).default([]) })
    .optional(),
});

const Head = {
  title: z.string().min(1),
  /** Short and unique: what alerts, exceptions and `ale guard explain` call it. */
  name: z.string().regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/, "lower-case words joined by hyphens, e.g. port-scan"),
  id: z.string().optional(),
  status: z.enum(["stable", "test", "experimental", "deprecated", "unsupported"]).optional(),
  description: z.string().optional(),
  references: z.array(z.string()).optional(),
  author: z.string().optional(),
  date: z.string().optional(),
  modified: z.string().optional(),
  license: z.string().optional(),
  tags: z.array(z.string()).default([]),
  level: z.enum(["informational", "low", "medium", "high", "critical"]).default("medium"),
  falsepositives: z.array(z.string()).default([]),
  ale: Own.optional(),
};

const logsource = z.looseObject({
  product: z.literal("ale").optional(),
  category: z.union([z.string(), z.array(z.string()).min(1)]),
});

export const EventRule = z.strictObject({
  ...Head,
  logsource,
  detection: z.looseObject({ condition: z.union([z.string(), z.array(z.string()).min(1)]) }),
  fields: z.array(z.string()).optional(),
});
export type EventRule = z.infer<typeof EventRule>;

const bound = z.strictObject({
  gte: z.number().int().positive().optional(),
  gt: z.number().int().nonnegative().optional(),
  /** Of `value_count`: whose distinct values are counted. Of `value_sum`: whose values are added. */
  field: z.string().optional(),
});

export const CorrelationRule = z.strictObject({
  ...Head,
  correlation: z.strictObject({
    type: z.enum(["event_count", "value_count", "value_sum", "temporal", "temporal_ordered"]),
    rules: z.array(z.string()).min(1),
    "group-by": z.array(z.string()).default(["sandbox"]),
    timespan: z.string().regex(/^\d+(?:\.\d+)?(?:ms|s|m|h)$/, "a number and ms, s, m or h, e.g. 10s"),
    condition: bound.optional(),
    /** Whether the rules that it counts give alerts of their own. */
    generate: z.boolean().default(false),
  }),
});
export type CorrelationRule = z.infer<typeof CorrelationRule>;

export type SigmaRule = EventRule | CorrelationRule;
export const isCorrelation = (rule: SigmaRule): rule is CorrelationRule => "correlation" in rule;
export const familyOf = (rule: SigmaRule): string => rule.ale?.family ?? rule.name;
export const Detection = z.record(z.string(), selection);

/** What an alert says of its rule. Sigma's `informational` gives no alert and no severity. */
export interface RuleFacts {
  readonly technique: string;
  readonly category: RiskCategory;
  readonly severity: Severity | null;
  readonly response: Response;
}

const CATEGORY_TAG = /^ale\.(.+)$/;
const TECHNIQUE_TAG = /^attack\.(t\d{4}(?:\.\d{3})?)$/i;

/** Undefined `technique` or `category`: the tags lack it. */
export function factsOf(rule: SigmaRule): Partial<RuleFacts> & Pick<RuleFacts, "severity" | "response"> {
  const technique = firstMatch(rule.tags, TECHNIQUE_TAG)?.toUpperCase();
  const category = RiskCategory.safeParse(firstMatch(rule.tags, CATEGORY_TAG)).data;
  return {
    ...(technique === undefined ? {} : { technique }),
    ...(category === undefined ? {} : { category }),
    severity: rule.level === "informational" ? null : Severity.parse(rule.level),
    response: rule.ale?.response ?? "record",
  };
}

function firstMatch(tags: readonly string[], pattern: RegExp): string | undefined {
  for (const tag of tags) {
    const found = pattern.exec(tag)?.[1];
    if (found !== undefined) return found;
  }
  return undefined;
}
