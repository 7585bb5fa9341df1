import type { Rule } from "./rule.ts";
import { evaluationRules } from "./rules/evaluation.ts";
import { hostRules } from "./rules/host.ts";
import { networkRules } from "./rules/network.ts";
import { persistenceRules } from "./rules/persistence.ts";

/** Every rule that ships, in the order in which alerts of one call are listed. */
export const allRules: readonly Rule[] = [
  ...evaluationRules,
  ...networkRules,
  ...hostRules,
  ...persistenceRules,
];
