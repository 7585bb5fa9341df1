import { AleError, suggest } from "@ale/core";
import { checkFixtures, factsOf, isCorrelation, readRules, SHIPPED_RULES, type SigmaRule } from "@ale/guard";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { table } from "../table.ts";

/** `ale guard rules|explain|test`: what guard looks for in telemetry, and whether its rules do what their fixtures say. */

const PACK = {
  rules: { type: "string", value: "PATH", help: "also this YAML file, or the YAML files of this folder" },
} as const;

const packOf = (own: string | undefined): readonly SigmaRule[] =>
  readRules([SHIPPED_RULES, ...(own === undefined ? [] : [own])]);

const listUsage = defineUsage({
  positionals: "",
  options: PACK,
  notes: "example: ale guard rules --rules ./my-rules",
});

export const list: Action = {
  usage: listUsage,
  async run(argv, io) {
    const { values } = parseArguments(listUsage, argv);
    const rules = packOf(values.rules);
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
  options: PACK,
  notes: "example: ale guard explain port-scan",
});

export const explain: Action = {
  usage: explainUsage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(explainUsage, argv);
    const rules = packOf(values.rules);
    const [name = ""] = positionals;
    const rule = rules.find((one) => one.name === name);
    if (rule === undefined) throw unknownRule(name, rules);
    printRule(rule, rules, io);
    io.result({ ok: true, rule: shown(rule) });
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

function unknownRule(name: string, rules: readonly SigmaRule[]): AleError {
  const near = suggest(
    name,
    rules.map((rule) => rule.name),
  );
  return new AleError("rule-unknown", `there is no rule "${name}"`, {
    next: near === undefined ? "ale guard rules lists them" : `did you mean: ale guard explain ${near}?`,
  });
}

const shown = (rule: SigmaRule) => ({ ...rule, ...factsOf(rule) });

function printRule(rule: SigmaRule, rules: readonly SigmaRule[], io: Io): void {
  const { severity, technique, category, response } = factsOf(rule);
  const line = (label: string, text: string | undefined): void => {
    if (text !== undefined && text !== "") io.print(`${io.paint("dim", label.padEnd(17))}${text}`);
  };
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
    for (const [name, selection] of Object.entries(selections)) line(`  ${name}`, JSON.stringify(selection));
    line("condition", [condition].flat().join(" or "));
    const counting = rules.filter(
      (other) => isCorrelation(other) && other.correlation.rules.includes(rule.name),
    );
    line("counted by", counting.map(({ name }) => name).join(", "));
  }
  for (const positive of rule.falsepositives) line("false positive", positive);
}
