import { relative } from "node:path";
import { AleError, suggest } from "@ale/core";
import {
  allRules,
  checkFixtures,
  factsOf,
  isCorrelation,
  type Rule,
  type RuleSource,
  readPacks,
  readRules,
  SHIPPED_RULES,
  type SigmaRule,
} from "@ale/guard";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { table } from "../table.ts";

/** `ale guard rules|explain|test`: what guard looks for in telemetry, and whether its rules do what their fixtures say. */

const PACK = {
  rules: {
    type: "string",
    value: "PATH",
    multiple: true,
    help: "also this YAML file, or the YAML files of this folder",
  },
} as const;

const packOf = (own: readonly string[] | undefined): ReturnType<typeof readPacks> =>
  readPacks([SHIPPED_RULES, ...(own ?? [])]);

const listUsage = defineUsage({
  positionals: "",
  options: PACK,
  notes: "example: ale guard rules --rules ./my-rules",
});

export const list: Action = {
  usage: listUsage,
  async run(argv, io) {
    const { values } = parseArguments(listUsage, argv);
    const { rules } = packOf(values.rules);
    const rows = rules.map((rule) => {
      const { severity, technique, response } = factsOf(rule);
      return [rule.name, severity ?? "counted", response, technique ?? "", rule.title];
    });
    const columns = ["rule", "severity", "response", "technique", "title"].map((title) => ({ title }));
    const [head = "", ...body] = table(columns, rows);
    io.print(io.paint("dim", head));
    for (const line of body) io.print(line);
    io.result({ ok: true, rules: rules.map(shown) });
    return EXIT.ok;
  },
};

const explainUsage = defineUsage({
  positionals: "RULE",
  options: {
    ...PACK,
    yaml: {
      type: "boolean",
      help: "the rule as it is written, fixtures and all, to begin one of your own from",
    },
  },
  notes: `
examples: ale guard explain port-scan        ale guard explain port-scan --yaml > my-rules/port-scan.yml
How to write one: docs/how-to/guard-rules.md`,
});

export const explain: Action = {
  usage: explainUsage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(explainUsage, argv);
    const { rules, sources } = packOf(values.rules);
    const [name = ""] = positionals;
    const rule = rules.find((one) => one.name === name);
    if (rule === undefined) return explainCode(name, rules, values.yaml, io);
    const source = sources.get(rule)!;
    if (values.yaml) io.print(source.yaml.trimEnd());
    else printRule(rule, source, rules, io);
    io.result({ ok: true, rule: shown(rule), source });
    return EXIT.ok;
  },
};

const testUsage = defineUsage({
  positionals: "[PATH...]",
  options: {},
  notes: `
Tries every fixture of every rule: those of ALE, and those of the YAML files or folders that are named. Exits 1 when a rule fires on what
it must not, or is silent on what it must fire on, or has no fixture of either kind.`,
});

export const test: Action = {
  usage: testUsage,
  async run(argv, io) {
    const { positionals } = parseArguments(testUsage, argv);
    const report = checkFixtures(readRules([SHIPPED_RULES, ...positionals]));
    for (const { rule, expected, fixture } of report.failures)
      io.print(
        `${io.paint("red", "fails")}    ${rule}: ${expected === "fires" ? "does not fire on" : "fires on"} fixture ${fixture} of ${expected}`,
      );
    for (const rule of report.untested)
      io.print(`${io.paint("yellow", "untested")} ${rule}: needs a fixture that fires and one that does not`);
    const ok = report.failures.length === 0 && report.untested.length === 0;
    io.print(
      `${report.rules} rules, ${report.fixtures} fixtures: ${ok ? "all hold" : `${report.failures.length} fail`}`,
    );
    io.result({ ok, ...report });
    return ok ? EXIT.ok : EXIT.failed;
  },
};

/** Rules over the text of calls are code: nothing to copy, but somebody who follows an alert asks for them too. */
function explainCode(name: string, rules: readonly SigmaRule[], yaml: boolean, io: Io): number {
  const rule = allRules.find(({ id }) => id === name);
  if (rule === undefined) throw unknownRule(name, rules);
  if (yaml)
    throw usageError(
      `${name} judges the text of calls, which no YAML rule does`,
      "its code is in packages/guard/src/rules; leave out --yaml to read what it looks for",
    );
  const { cases, detection: _, ...head } = rule;
  printCodeRule(rule, io);
  io.result({ ok: true, rule: head, cases });
  return EXIT.ok;
}

function printCodeRule(
  { id, title, technique, category, severity, source, falsePositives, cases }: Rule,
  io: Io,
): void {
  io.print(io.paint("bold", `${id}: ${title}`));
  const line = lineOf(io);
  line("severity", severity);
  line("category", category);
  line("technique", `${technique} (MITRE ATT&CK)`);
  line(
    "judges",
    source === "command"
      ? "what a tool call would run, before it runs"
      : "what a call names or changes of the paths that an instance protects",
  );
  for (const one of cases.fires.slice(0, 3))
    line("  fires on", typeof one === "string" ? one : `${one.name} ${JSON.stringify(one.arguments)}`);
  line("false positive", falsePositives);
  line("written in", "packages/guard/src/rules");
}

/** One line a field; of a list of maps, each after the first begins with "or". */
function selectionLines(selection: unknown): string[] {
  return [selection].flat().flatMap((map, i) =>
    Object.entries(map as object).map(([field, value], j) => {
      const values = [value].flat().map((one) => (typeof one === "string" ? one : JSON.stringify(one)));
      return `${i > 0 && j === 0 ? "or " : ""}${field}: ${values.join(", ")}`;
    }),
  );
}

const lineOf =
  (io: Io) =>
  (label: string, text: string | undefined): void => {
    if (text !== undefined && text !== "") io.print(`${io.paint("dim", label.padEnd(17))}${text}`);
  };

function unknownRule(name: string, rules: readonly SigmaRule[]): AleError {
  const near = suggest(name, [...rules.map((rule) => rule.name), ...allRules.map(({ id }) => id)]);
  return new AleError("rule-unknown", `there is no rule "${name}"`, {
    next: near === undefined ? "ale guard rules lists them" : `did you mean: ale guard explain ${near}?`,
  });
}

const shown = (rule: SigmaRule) => ({ ...rule, ...factsOf(rule) });

function printRule(rule: SigmaRule, source: RuleSource, rules: readonly SigmaRule[], io: Io): void {
  const { severity, technique, category, response } = factsOf(rule);
  const line = lineOf(io);
  io.print(io.paint("bold", `${rule.name}: ${rule.title}`));
  line("what", rule.description);
  line("severity", severity ?? "none; other rules count it");
  line("category", category);
  line("technique", technique === undefined ? undefined : `${technique} (MITRE ATT&CK)`);
  line("response", response);
  if (isCorrelation(rule)) {
    const { type, rules: counted, timespan, condition, "group-by": group } = rule.correlation;
    const least = condition?.gte ?? (condition?.gt === undefined ? counted.length : condition.gt + 1);
    const what = condition?.field === undefined ? "records" : `values of ${condition.field}`;
    line("counts", `${type}: ${least} or more ${what} of ${counted.join(", ")}`);
    line("within", `${timespan}, for each ${group.join(" and ")}`);
  } else {
    const { condition, ...selections } = rule.detection;
    line("records", [rule.logsource.category].flat().join(", "));
    for (const [name, selection] of Object.entries(selections))
      for (const [i, text] of selectionLines(selection).entries()) line(i === 0 ? `  ${name}` : "", text);
    line("condition", [condition].flat().join(" or "));
    const counting = rules.filter(
      (other) => isCorrelation(other) && other.correlation.rules.includes(rule.name),
    );
    line("counted by", counting.map(({ name }) => name).join(", "));
  }
  for (const positive of rule.falsepositives) line("false positive", positive);
  line("note", rule.ale?.note);
  const { fires = [], silent = [] } = rule.ale?.fixtures ?? {};
  if (fires.length + silent.length > 0)
    line("fixtures", `${fires.length} on which it must fire, ${silent.length} on which it must not`);
  line("written in", `${relative(process.cwd(), source.file)}, line ${source.line} (--yaml prints it)`);
}
