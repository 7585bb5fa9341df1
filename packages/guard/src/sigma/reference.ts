import { type CorrelationRule, factsOf, familyOf, isCorrelation, type SigmaRule } from "./rule.ts";

/** The page about rules for people: what each looks for, how bad it is, what is done, when an honest agent sets it off. Pure. */
export function ruleReference(rules: readonly SigmaRule[]): string {
  const alerting = rules.filter((rule) => factsOf(rule).severity !== null);
  const families = Map.groupBy(alerting, familyOf);
  const sections = [...families].sort(([a], [b]) => a.localeCompare(b)).map(sectionOf);
  return `${HEAD}${sections.join("\n")}`;
}

const HEAD = `# Rules over telemetry

Generated from \`packages/guard/rules\` by \`node scripts/make-guard-reference.ts\`. \`ale guard explain RULE\` shows a rule's fields and condition,
with \`--yaml\` as it is written, and \`ale guard test\` tries its fixtures. How to write one: [rules of your own](../how-to/guard-rules.md). Rules of one family tell of one kind of act by different signs: what is found of one act by several of them is
told once, and again only where one says more ([attribution](../explanation/attribution.md)). Rules over the text of calls are in
\`packages/guard/src/rules\`.

An instance allows a rule by \`guard.allowRules\` and asks for another response by \`guard.responses\`. A pack of your own adds rules; one of them takes
the place of a rule below where it has its name and says \`ale: { overrides: true }\`.

`;

function sectionOf([family, rules]: readonly [string, readonly SigmaRule[]]): string {
  return `## ${family}\n\n${rules.map(entryOf).join("\n")}`;
}

function entryOf(rule: SigmaRule): string {
  const { severity, technique, category, response } = factsOf(rule);
  const facts = [
    `**${severity}**`,
    `${technique}`,
    `${category}`,
    response === "record" ? "recorded" : response,
  ];
  const lines = [
    `### ${rule.name}`,
    `${rule.title}. ${rule.description ?? ""}`.trim(),
    `${facts.join(" · ")} · from ${sourceOf(rule)}`,
    ...rule.falsepositives.map((text) => `An honest agent: ${text}.`),
    ...(rule.ale?.note === undefined ? [] : [rule.ale.note]),
  ];
  return `${lines.join("\n\n")}\n`;
}

function sourceOf(rule: SigmaRule): string {
  if (isCorrelation(rule)) return countOf(rule);
  return [rule.logsource.category]
    .flat()
    .map((kind) => `\`${kind}\``)
    .join(", ");
}

function countOf({ correlation }: CorrelationRule): string {
  const { type, rules, timespan, condition, "group-by": group } = correlation;
  const least = condition?.gte ?? (condition?.gt === undefined ? rules.length : condition.gt + 1);
  const what =
    condition?.field === undefined
      ? "records"
      : `${type === "value_sum" ? "" : "values "}of \`${condition.field}\``;
  const counted = rules.map((name) => `\`${name}\``).join(", ");
  return `${least.toLocaleString("en")} ${what} within ${timespan} (${counted}, for each ${group.join(" and ")})`;
}
