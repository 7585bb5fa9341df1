import { AleError, type Approver, denyAll, type Instance, suggest, TelemetrySource } from "@ale/core";
import { TOOLS } from "@ale/flow";
import { allRules, compileRules, readRules, SHIPPED_RULES, type SigmaRule, shippedRules } from "@ale/guard";

/** How closely an episode is watched, and what may come of it. */
export interface Watch {
  /** False: alerts are recorded and the agent notices nothing. */
  readonly responses: boolean;
  /** Whose records are listened to. Without any, nothing is collected. */
  readonly collectors: readonly TelemetrySource[];
  /** Over calls and over telemetry. What guard reads out of commands and protected paths is always judged. */
  readonly rules: readonly SigmaRule[];
  /** Tools of which every call needs approval. */
  readonly askFor: readonly string[];
  readonly approver: Approver;
}

/** Commands and protected paths alone, recorded: what a recipe that says nothing of guard gets. */
export const plainWatch: Watch = {
  responses: false,
  collectors: [],
  rules: [],
  askFor: [],
  approver: denyAll,
};

/** All collectors, the rules that ship, and what they ask for is done. Nobody is there to approve anything. */
export const watchEverything = (): Watch => ({
  ...plainWatch,
  responses: true,
  collectors: TelemetrySource.options,
  rules: shippedRules(),
});

/** The rules that ship and those of some packs. Throws an AleError where a pack is wrong, by itself or beside the others. */
export function rulesWith(packs: readonly string[]): readonly SigmaRule[] {
  if (packs.length === 0) return shippedRules();
  // Together: a pack may count rules that ship, and replace them.
  const rules = readRules([SHIPPED_RULES, ...packs]);
  compileRules(rules);
  return rules;
}

/** Tools of which every call needs approval. Throws an AleError `unknown-tool`: a name that nothing has would ask for nothing. */
export function askedTools({ guard }: Instance, { askFor, responses }: Watch): ReadonlySet<string> {
  const asked = [...askFor, ...(responses ? (guard?.ask ?? []) : [])];
  const fault = toolFault(asked);
  if (fault !== undefined) throw fault;
  return new Set(asked);
}

const TOOL_NAMES = TOOLS.map(({ schema }) => schema.name);

/** The first name that no tool has, as what is wrong with it. */
export function toolFault(names: readonly string[]): AleError | undefined {
  const wrong = names.find((name) => !TOOL_NAMES.includes(name));
  return wrong === undefined ? undefined : unknownTool(wrong);
}

function unknownTool(name: string): AleError {
  const near = suggest(name, TOOL_NAMES);
  return new AleError("unknown-tool", `there is no tool ${name}`, {
    next: near === undefined ? `one of: ${TOOL_NAMES.join(", ")}` : `did you mean ${near}?`,
  });
}

/** The instance as guard is to judge it: where there are no responses, every rule only records. */
export function judgedInstance(instance: Instance, watch: Watch): Instance {
  if (watch.responses) return instance;
  const names = [...allRules.map(({ id }) => id), ...watch.rules.map(({ name }) => name)];
  const responses = Object.fromEntries(names.map((name) => [name, "record" as const]));
  return { ...instance, guard: { ...instance.guard, responses } };
}
