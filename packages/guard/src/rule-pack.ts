import type { Rule } from "./rule.ts";
import { evaluationRules } from "./rules/evaluation.ts";

/** Every rule that ships, in the order in which alerts of one call are listed. */
export const allRules: readonly Rule[] = [...evaluationRules];
