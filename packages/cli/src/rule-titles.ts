import { allRules, readRules, SHIPPED_RULES } from "@ale/guard";

/** What a rule looks for, in a sentence. Of the rules that ship; an incident's rule may be somebody's own. */
export function titlesOfRules(): (rule: string) => string | undefined {
  const titles = new Map([
    ...allRules.map(({ id, title }): [string, string] => [id, title]),
    ...readRules([SHIPPED_RULES]).map(({ name, title }): [string, string] => [name, title]),
  ]);
  return (rule) => titles.get(rule);
}
