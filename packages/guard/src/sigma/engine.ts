import { AleError } from "@ale/core";
import { type Condition, isMeant, parseCondition } from "./condition.ts";
import { compileField, type FieldTest, type Scalar } from "./field.ts";
import {
  type CorrelationRule,
  type EventRule,
  factsOf,
  isCorrelation,
  type RuleFacts,
  type Selection,
  type SigmaRule,
} from "./rule.ts";
import { type Correlated, Window } from "./window.ts";

/**
 * Runs rules over telemetry. Rules are compiled once; a record meets only the rules of its kind. Deterministic: the same records in the
 * same order give the same matches, whenever they are fed.
 */

export interface TelemetryLike {
  readonly at: number;
  readonly kind: string;
}

export interface RuleMatch<T> {
  readonly rule: SigmaRule;
  readonly facts: RuleFacts;
  /** The record that set it off; of a correlation the last one that counted. */
  readonly record: T;
  readonly correlated?: Correlated;
}

interface Compiled {
  readonly rule: EventRule;
  readonly facts: RuleFacts;
  readonly matches: FieldTest;
  /** Gives alerts of its own. */
  readonly alerts: boolean;
}

interface Correlating {
  readonly rule: CorrelationRule;
  readonly facts: RuleFacts;
  readonly window: Window;
}

export interface RuleEngine<T extends TelemetryLike> {
  /**
   * Matches of one record, event rules before correlations. `before`: what was fed of the same event when less was known of it; rules that it
   * set off then have seen it, and neither match nor count again.
   */
  feed(record: T, before?: T): readonly RuleMatch<T>[];
  /** Which event rules a record would set off by itself. Remembers nothing. */
  peek(record: T): readonly RuleMatch<T>[];
}

/** Throws an AleError `rule-unknown` or `rule-duplicate`; rules that `loadRules` accepted are sound otherwise. */
export function compileRules<T extends TelemetryLike>(rules: readonly SigmaRule[]): RuleEngine<T> {
  refuseDuplicates(rules);
  const correlations = rules.filter(isCorrelation);
  const counted = silentRules(rules, correlations);
  const byKind = new Map<string, Compiled[]>();
  for (const rule of rules) {
    if (isCorrelation(rule)) continue;
    const compiled = {
      rule,
      facts: certainFacts(rule),
      matches: compileRule(rule),
      alerts: !counted.has(rule.name) && rule.level !== "informational",
    };
    for (const kind of [rule.logsource.category].flat()) {
      const list = byKind.get(kind) ?? [];
      byKind.set(kind, list);
      list.push(compiled);
    }
  }
  const windows = new Map<string, Correlating[]>();
  for (const rule of correlations) {
    const correlating = { rule, facts: certainFacts(rule), window: new Window(rule) };
    for (const name of rule.correlation.rules) windows.set(name, [...(windows.get(name) ?? []), correlating]);
  }
  return {
    feed(record, before) {
      const all = byKind.get(record.kind) ?? [];
      return feed(
        record,
        before === undefined ? all : all.filter(({ matches }) => !matches(before)),
        windows,
      );
    },
    peek: (record) =>
      (byKind.get(record.kind) ?? [])
        .filter(({ alerts, matches }) => alerts && matches(record))
        .map(({ rule, facts }) => ({ rule, facts, record })),
  };
}

function feed<T extends TelemetryLike>(
  record: T,
  candidates: readonly Compiled[],
  windows: ReadonlyMap<string, readonly Correlating[]>,
): readonly RuleMatch<T>[] {
  if (candidates.length === 0) return [];
  const matches: RuleMatch<T>[] = [];
  const queue: string[] = [];
  for (const { rule, facts, matches: test, alerts } of candidates) {
    if (!test(record)) continue;
    if (alerts) matches.push({ rule, facts, record });
    if (windows.has(rule.name)) queue.push(rule.name);
  }
  // A correlation may itself be counted by another one.
  for (let i = 0; i < queue.length; i++)
    for (const { rule, facts, window } of windows.get(queue[i]!) ?? []) {
      const correlated = window.add(queue[i]!, record);
      if (correlated === undefined) continue;
      if (rule.level !== "informational") matches.push({ rule, facts, record, correlated });
      if (windows.has(rule.name)) queue.push(rule.name);
    }
  return matches;
}

function certainFacts(rule: SigmaRule): RuleFacts {
  const { technique = "", category = "safety-and-security", severity, response } = factsOf(rule);
  return { technique, category, severity, response };
}

function compileRule(rule: EventRule): FieldTest {
  const { condition, ...selections } = rule.detection;
  const tests = new Map(
    Object.entries(selections).map(([name, selection]) => [name, compileSelection(selection as Selection)]),
  );
  const conditions = [condition].flat().map((text) => {
    const parsed = parseCondition(text);
    if (!parsed.ok) throw new AleError("rule-invalid", `${rule.name}: ${parsed.message}`);
    return compileCondition(parsed.condition, tests);
  });
  return anyOf(conditions);
}

function compileCondition(condition: Condition, tests: ReadonlyMap<string, FieldTest>): FieldTest {
  switch (condition.type) {
    case "name": {
      const test = tests.get(condition.name);
      if (test === undefined) throw new AleError("rule-invalid", `no selection is called ${condition.name}`);
      return test;
    }
    case "not": {
      const inner = compileCondition(condition.of, tests);
      return (record) => !inner(record);
    }
    case "and":
      return allOf(condition.of.map((part) => compileCondition(part, tests)));
    case "or":
      return anyOf(condition.of.map((part) => compileCondition(part, tests)));
    case "some":
    case "all": {
      const meant = [...tests].filter(([name]) => isMeant(condition.pattern, name)).map(([, test]) => test);
      return condition.type === "all" ? allOf(meant) : anyOf(meant);
    }
    default:
      return condition satisfies never;
  }
}

function compileSelection(selection: Selection): FieldTest {
  const maps = Array.isArray(selection) ? selection : [selection];
  return anyOf(
    maps.map((map) =>
      allOf(
        cheapestFirst(map).map(([key, value]) => {
          const made = compileField(key, value as Scalar | readonly Scalar[]);
          if (!made.ok) throw new AleError("rule-invalid", made.message);
          return made.test;
        }),
      ),
    ),
  );
}

/** Which of the fields is looked at first does not matter to the outcome: expressions last. */
const cheapestFirst = (map: Readonly<Record<string, unknown>>): [string, unknown][] =>
  Object.entries(map).sort(([a], [b]) => Number(isPattern(a)) - Number(isPattern(b)));
const isPattern = (key: string): boolean => key.split("|").includes("re");

const allOf = (tests: readonly FieldTest[]): FieldTest =>
  tests.length === 1 ? tests[0]! : (record) => tests.every((test) => test(record));
const anyOf = (tests: readonly FieldTest[]): FieldTest =>
  tests.length === 1 ? tests[0]! : (record) => tests.some((test) => test(record));

function refuseDuplicates(rules: readonly SigmaRule[]): void {
  const names = new Set<string>();
  for (const { name } of rules) {
    if (names.has(name))
      throw new AleError("rule-duplicate", `two rules are called ${name}`, {
        next: "give one of them another name, or say `ale: { overrides: true }` in the one that is to stand",
      });
    names.add(name);
  }
}

/** Rules that are only counted by others. Refuses correlations over rules that are not there. */
function silentRules(
  rules: readonly SigmaRule[],
  correlations: readonly CorrelationRule[],
): ReadonlySet<string> {
  const names = new Set(rules.map(({ name }) => name));
  const silent = new Set<string>();
  for (const { name, correlation } of correlations)
    for (const counted of correlation.rules) {
      if (!names.has(counted))
        throw new AleError("rule-unknown", `${name} counts the rule ${counted}, which is not there`, {
          next: "load the pack that has it, or correct the name",
        });
      if (!correlation.generate) silent.add(counted);
    }
  return silent;
}
