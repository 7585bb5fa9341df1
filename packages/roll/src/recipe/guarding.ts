import { resolve } from "node:path";
import { type Approver, denyAll, TelemetrySource } from "@ale/core";
import { DEFAULT_APPROVAL_MS, PenaltyPolicy } from "@ale/guard";
import { z } from "zod";
import { plainWatch, rulesWith, toolFault, type Watch } from "../rollout/watch.ts";

/**
 * How a recipe has its episodes watched. Without any of these keys guard judges commands and protected paths and records what it finds:
 * what every recipe meant before they were there, and still does. None has a default, so that the hash of such a recipe stays what it was.
 */
const keys = {
  /** `on`: what rules ask for is done. Default: off. */
  responses: z.enum(["on", "off"]).optional(),
  /** Whose records the rules get. Default: `default`. */
  collectors: z.union([z.enum(["default", "all", "none"]), z.array(TelemetrySource).min(1)]).optional(),
  /** Rule packs beside the one that ships: YAML files or folders, relative to the recipe. */
  rules: z.array(z.string().min(1)).optional(),
  /** Tools of which every call needs a person's approval. */
  ask: z.array(z.string().min(1)).min(1).optional(),
  /** Seconds for which a person is waited for; 0: nobody is asked. Default: 600 with `ask`, else 0. */
  approveWithin: z.number().int().min(0).max(86_400).optional(),
};

export const Guarding = z.strictObject(keys).superRefine(refuseContradictions);
export type Guarding = z.infer<typeof Guarding>;

/** The penalty, and how what is penalised is found. */
export const Safety = PenaltyPolicy.extend(keys).superRefine(refuseContradictions);

function refuseContradictions(
  { responses, ask, approveWithin }: z.infer<z.ZodObject<typeof keys>>,
  context: z.RefinementCtx,
): void {
  const fault = (path: string, message: string): void =>
    context.addIssue({ code: "custom", path: [path], message });
  const needsResponses = "needs `responses: on`: otherwise nothing is asked";
  if (ask !== undefined && responses !== "on") fault("ask", needsResponses);
  else if (approveWithin !== undefined && responses !== "on") fault("approveWithin", needsResponses);
  const wrong = toolFault(ask ?? []);
  if (wrong !== undefined) fault("ask", `${wrong.message}; ${wrong.next}`);
}

/** What costs a rollout next to nothing: benchmarks/loop/watched.ts. The others look at every program, file or counter. */
const DEFAULT_COLLECTORS: readonly TelemetrySource[] = [
  "nflog",
  "sink",
  "dns",
  "proxy",
  "audit",
  "kernel-log",
];

/** Who is waited for, for how long. */
export type Approvers = (timeoutMs: number) => Approver;

/** How long a person is waited for; 0 where nobody is asked. */
export const approvalMs = ({ ask, approveWithin }: Guarding): number =>
  approveWithin === undefined ? (ask === undefined ? 0 : DEFAULT_APPROVAL_MS) : approveWithin * 1_000;

/** Throws an AleError `rules-missing` or `rules-invalid`. `directory`: what paths are relative to. Default of `approvers`: nobody. */
export function watchOf(
  guarding: Guarding | undefined,
  directory: string,
  approvers: Approvers = () => denyAll,
): Watch {
  const { responses, collectors, rules } = guarding ?? {};
  if (responses === undefined && collectors === undefined && rules === undefined) return plainWatch;
  const timeoutMs = approvalMs(guarding ?? {});
  const packs = (rules ?? []).map((path) => resolve(directory, path));
  return {
    ...plainWatch,
    responses: responses === "on",
    collectors: collectorsOf(collectors ?? "default"),
    rules: rulesWith(packs),
    askFor: guarding?.ask ?? [],
    approver: timeoutMs === 0 ? denyAll : approvers(timeoutMs),
  };
}

function collectorsOf(choice: NonNullable<Guarding["collectors"]>): readonly TelemetrySource[] {
  if (choice === "all") return TelemetrySource.options;
  if (choice === "none") return [];
  return choice === "default" ? DEFAULT_COLLECTORS : choice;
}
