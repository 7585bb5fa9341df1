import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { AleError, suggest } from "@ale/core";
import { compileRules, type TelemetryLike } from "./engine.ts";
import { faultText, type RuleFault } from "./fault.ts";
import { type CountedRule, loadRules, type RuleSource } from "./load.ts";
import type { SigmaRule } from "./rule.ts";

/** Rule files on disk: the pack that ships with ALE, and those of the user beside it. */

export const SHIPPED_RULES = resolve(import.meta.dirname, "../../rules");

let shipped: readonly SigmaRule[] | undefined;
/** Those that ship, read once. */
export function shippedRules(): readonly SigmaRule[] {
  shipped ??= readRules([SHIPPED_RULES]);
  return shipped;
}

/**
 * Rules of files and of directories (their `*.yml` and `*.yaml`, by name), later ones in the place of those that they override. Throws
 * `rules-invalid` with every fault, or `rules-missing`.
 */
export function readRules(paths: readonly string[]): readonly SigmaRule[] {
  return readPacks(paths).rules;
}

/** The same, with where each rule was written. */
export function readPacks(paths: readonly string[]): {
  readonly rules: readonly SigmaRule[];
  readonly sources: ReadonlyMap<SigmaRule, RuleSource>;
} {
  const faults: RuleFault[] = [];
  const rules: SigmaRule[] = [];
  const counted: CountedRule[] = [];
  const sources = new Map<SigmaRule, RuleSource>();
  for (const path of paths) {
    const loaded = filesOf(path).map((file) => loadRules(textOf(file), file));
    // Who names a pack means to be watched by it.
    if (loaded.every((file) => file.rules.length + file.faults.length === 0)) throw noRules(path);
    rules.push(...loaded.flatMap((file) => file.rules));
    faults.push(...loaded.flatMap((file) => file.faults));
    counted.push(...loaded.flatMap((file) => file.counted));
    for (const file of loaded) for (const [rule, source] of file.sources) sources.set(rule, source);
  }
  // With faults beside them, rules are missing that are only wrong.
  if (faults.length === 0) faults.push(...missing(counted, rules));
  if (faults.length > 0)
    throw new AleError("rules-invalid", faults.map(faultText).join("\n"), {
      next: "correct these lines; `ale guard explain port-scan --yaml` prints a rule that is right, docs/how-to/guard-rules.md says how one is written",
    });
  return { rules: withOverrides(rules), sources };
}

/** Each rule that overrides stands where the one stood that it replaces. Throws `rule-unknown` where there is none. */
export function withOverrides(rules: readonly SigmaRule[]): readonly SigmaRule[] {
  const merged: SigmaRule[] = [];
  for (const rule of rules) {
    const place = rule.ale?.overrides === true ? merged.findIndex(({ name }) => name === rule.name) : -1;
    if (place >= 0) merged[place] = rule;
    else if (rule.ale?.overrides !== true) merged.push(rule);
    else
      throw new AleError("rule-unknown", `${rule.name} overrides a rule that is not there`, {
        next: "leave out `overrides`, or correct the name: `ale guard rules` lists them",
      });
  }
  return merged;
}

function missing(counted: readonly CountedRule[], rules: readonly SigmaRule[]): RuleFault[] {
  const names = rules.map(({ name }) => name);
  return counted
    .filter(({ name }) => !names.includes(name))
    .map(({ name, fault }) => {
      const near = suggest(name, names);
      return near === undefined ? fault : { ...fault, message: `${fault.message}; did you mean "${near}"?` };
    });
}

const noRules = (path: string): AleError =>
  new AleError("rules-missing", `there is no rule in ${path}`, {
    next: "name a YAML file with rules, or a folder of them (*.yml, *.yaml)",
  });

function filesOf(path: string): string[] {
  const names = namesIn(path);
  if (names === undefined) return [path];
  return names
    .filter((name) => /\.ya?ml$/.test(name))
    .sort()
    .map((name) => join(path, name));
}

/** Undefined: it is a file. */
function namesIn(path: string): string[] | undefined {
  try {
    return readdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw new AleError("rules-missing", `there are no rules at ${path}`, {
      next: "name a YAML file, or a folder of them",
      cause: error,
    });
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new AleError("rules-missing", `${path} cannot be read`, {
      next: "name a YAML file, or a folder of them",
      cause,
    });
  }
}

export interface FixtureFailure {
  readonly rule: string;
  readonly expected: "fires" | "silent";
  /** From 1, in the order in which they are written. */
  readonly fixture: number;
}

export interface FixtureReport {
  readonly rules: number;
  readonly fixtures: number;
  readonly failures: readonly FixtureFailure[];
  /** Rules that give alerts and have no fixture that must fire, or none that must not. */
  readonly untested: readonly string[];
}

/** Tries every fixture of every rule, each with a fresh memory, against all the rules together. */
export function checkFixtures(rules: readonly SigmaRule[]): FixtureReport {
  const failures: FixtureFailure[] = [];
  let fixtures = 0;
  for (const rule of rules) {
    for (const expected of ["fires", "silent"] as const)
      for (const [i, fixture] of (rule.ale?.fixtures?.[expected] ?? []).entries()) {
        fixtures++;
        const fired = firesOn(rules, rule.name, [fixture].flat());
        if (fired !== (expected === "fires")) failures.push({ rule: rule.name, expected, fixture: i + 1 });
      }
  }
  const untested = rules
    .filter((rule) => rule.level !== "informational")
    .filter(({ ale }) => !ale?.fixtures?.fires.length || !ale.fixtures.silent.length)
    .map(({ name }) => name);
  return { rules: rules.length, fixtures, failures, untested };
}

function firesOn(
  rules: readonly SigmaRule[],
  name: string,
  records: readonly { readonly kind: string }[],
): boolean {
  const engine = compileRules<TelemetryLike & { sandbox: string; episode: string }>(rules);
  return records.some((record, i) =>
    engine
      .feed({ at: i, sandbox: "fixture", episode: "fixture", ...record })
      .some((match) => match.rule.name === name),
  );
}
