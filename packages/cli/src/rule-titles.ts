import { allRules, type RuleText, readRules, SHIPPED_RULES } from "@ale/guard";
import type { Option } from "./args.ts";

/** What rules say of themselves, in words: those that ship, and those of packs that are named. */
export const RULE_PACKS = {
  type: "string",
  value: "PATH",
  multiple: true,
  help: "rules of your own that may have told of it: a YAML file or a folder",
} as const satisfies Option;

export function rulesInWords(packs: readonly string[] = []): (rule: string) => RuleText | undefined {
  const texts = new Map<string, RuleText>([
    ...allRules.map(({ id, title, falsePositives }): [string, RuleText] => [
      id,
      { title, description: null, falsePositives: [falsePositives.replace(/\.$/, "")] },
    ]),
    ...readRules([SHIPPED_RULES, ...packs]).map((rule): [string, RuleText] => [
      rule.name,
      {
        title: rule.title,
        description: rule.description ?? null,
        falsePositives: rule.falsepositives.filter((text) => text !== "none known"),
      },
    ]),
  ]);
  return (rule) => texts.get(rule);
}
