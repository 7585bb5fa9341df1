import { AleError } from "@ale/core";
import { defineUsage, parseArguments } from "../args.ts";
import type { Command } from "../command.ts";
import { type Check, checkMachine } from "../doctor.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";

const usage = defineUsage({
  positionals: "",
  options: {},
  notes: `
Looks at everything that ALE needs on this machine and changes nothing, except that it starts one sandbox and removes it.
Exits 3 when something required is missing; each line says how to get it.`,
});

export const doctor: Command = {
  name: "doctor",
  summary: "say what this machine has, what it lacks, and how to get that",
  usage,
  async run(argv, io, signal) {
    parseArguments(usage, argv);
    const checks: Check[] = [];
    for await (const check of checkMachine(io.home, io.env, signal)) {
      checks.push(check);
      printCheck(check, io);
    }
    const missing = checks.filter((check) => check.state === "missing");
    io.print("");
    io.print(
      missing.length === 0
        ? "everything that is required is there"
        : `${missing.length} of ${checks.length} checks say that something required is missing`,
    );
    io.result({ ok: missing.length === 0, checks });
    return missing.length === 0 ? EXIT.ok : EXIT.missing;
  },
};

const MARKS = { ok: ["green", "✓"], weak: ["yellow", "!"], missing: ["red", "✗"] } as const;

function printCheck(check: Check, io: Io): void {
  const [colour, mark] = MARKS[check.state];
  io.print(`${io.paint(colour, mark)} ${check.name.padEnd(16)} ${check.found}`);
  if (check.next !== undefined) io.print(`  ${" ".repeat(16)} ${io.paint("cyan", "next:")} ${check.next}`);
}

/** For commands that would fail after minutes: throws what is missing at once. */
export async function requireMachine(
  home: string,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<void> {
  for await (const check of checkMachine(home, env, signal)) {
    if (check.state !== "missing") continue;
    throw new AleError("host-incomplete", `${check.name}: ${check.found}`, {
      next: check.next ?? "ale doctor says more",
    });
  }
}
