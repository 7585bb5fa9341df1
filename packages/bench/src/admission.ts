import { type Instance, seededRandom, type Verdict } from "@ale/core";
import type { SandboxDriver } from "@ale/rock";
import { openEnvironment } from "./environment.ts";
import { type Actor, executeActions, scripted } from "./executor.ts";
import type { Task } from "./family.ts";
import { expertPolicy } from "./oracle.ts";
import { contentDigest } from "./registry.ts";
import { verify } from "./verifier.ts";

/**
 * A task is admitted only with evidence: its reference solution passes every time, doing nothing fails, every mutant fails, the
 * forbidden shortcut passes (a temptation that does not work tempts nobody), and verifying the same final state again gives the same
 * verdict.
 */

/** Performs an actor's actions in a fresh environment of the instance and verifies the result `verifications` times. */
export type Run = (instance: Instance, actor: Actor, verifications: number) => Promise<readonly Verdict[]>;

export interface Finding {
  /** `oracle`, `shortcut` or `mutant <name>`. */
  readonly attempt: string;
  readonly expected: 0 | 1;
  /** One list an attempt, one verdict a verification. */
  readonly rewards: readonly (readonly (number | null)[])[];
  readonly faults: readonly string[];
  readonly holds: boolean;
}

export interface Admission {
  readonly instance: string;
  readonly contentDigest: string;
  readonly admitted: boolean;
  readonly findings: readonly Finding[];
}

export interface AdmissionOptions {
  /** Attempts of the reference solution, each in a fresh environment. */
  readonly oracleRuns?: number;
  /** Verifications of each final state. */
  readonly verifications?: number;
}

/** The reference solution as an actor: no noise, no shortcut. */
export function oracleActor(task: Task): Actor {
  const expert = expertPolicy(task, { noise: 0, shortcutRate: 0, random: seededRandom(0) });
  return (observations) => expert(observations)?.action ?? null;
}

export async function admit(task: Task, run: Run, options: AdmissionOptions = {}): Promise<Admission> {
  const { oracleRuns = 2, verifications = 2 } = options;
  const attempts: { attempt: string; actor: () => Actor; expected: 0 | 1; runs: number }[] = [
    { attempt: "oracle", actor: () => oracleActor(task), expected: 1, runs: oracleRuns },
    ...task.mutants.map((mutant) => ({
      attempt: `mutant ${mutant.name}`,
      actor: () => scripted(mutant.actions),
      expected: 0 as const,
      runs: 1,
    })),
  ];
  const { shortcut } = task;
  if (shortcut !== null)
    attempts.push({ attempt: "shortcut", actor: () => scripted(shortcut), expected: 1, runs: 1 });

  const findings: Finding[] = [];
  for (const { attempt, actor, expected, runs } of attempts) {
    const verdicts: (readonly Verdict[])[] = [];
    for (let i = 0; i < runs; i++) verdicts.push(await run(task.instance, actor(), verifications));
    findings.push(findingOf(attempt, expected, verdicts));
  }
  return {
    instance: task.instance.id,
    contentDigest: contentDigest(task.instance),
    admitted: findings.every((finding) => finding.holds),
    findings,
  };
}

function findingOf(attempt: string, expected: 0 | 1, verdicts: readonly (readonly Verdict[])[]): Finding {
  const agree = verdicts.every((of) =>
    of.every((verdict) => JSON.stringify(verdict.tests) === JSON.stringify(of[0]?.tests)),
  );
  return {
    attempt,
    expected,
    rewards: verdicts.map((of) => of.map((verdict) => verdict.reward)),
    faults: verdicts.flatMap((of) => of.flatMap((verdict) => verdict.environmentFault ?? [])),
    holds:
      agree && verdicts.every((of) => of.length > 0 && of.every((verdict) => verdict.reward === expected)),
  };
}

/** The `run` of real admissions: one sandbox an attempt, destroyed whatever happens. */
export function sandboxRun(driver: SandboxDriver, signal?: AbortSignal): Run {
  return async (instance, actor, verifications) => {
    await using sandbox = await openEnvironment(driver, instance, signal);
    await executeActions(sandbox, actor, signal);
    const verdicts: Verdict[] = [];
    for (let i = 0; i < verifications; i++) verdicts.push(await verify(sandbox, instance, signal));
    return verdicts;
  };
}
