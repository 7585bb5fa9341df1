import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { AleError } from "@ale/core";
import { compileRules, type TelemetryLike } from "./engine.ts";
import { faultText, type RuleFault } from "./fault.ts";
import { loadRules } from "./load.ts";
import type { SigmaRule } from "./rule.ts";

/** Rule files on disk: the pack that ships with ALE, and those of the user beside it. */

export const SHIPPED_RULES = resolve(import.meta.dirname, "../../rules");

/** Rules of files and of directories (their `*.yml` and `*.yaml`, by name). Throws `rules-invalid` with every fault, or `rules-missing`. */
export function readRules(paths: readonly string[]): readonly SigmaRule[] {
  const faults: RuleFault[] = [];
  const rules: SigmaRule[] = [];
  for (const path of paths.flatMap(filesOf)) {
    const loaded = loadRules(textOf(path), path);
    rules.push(...loaded.rules);
    faults.push(...loaded.faults);
  }
  if (faults.length > 0)
    throw new AleError("rules-invalid", faults.map(faultText).join("\n"), {
      next: "correct these lines; `ale guard explain port-scan` shows a rule that is right",
    });
  return rules;
}

function filesOf(path: string): string[] {
  try {
    return readdirSync(path)
      .filter((name) => /\.ya?ml$/.test(name))
      .sort()
      .map((name) => join(path, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return [path];
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
