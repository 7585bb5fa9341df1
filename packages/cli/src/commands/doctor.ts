import { defineUsage, oneOf, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { type Check, checkMachine, PARTS, type Part } from "../doctor.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";

const usage = defineUsage({
  positionals: "[PART]",
  options: {},
  notes: `
PART is rock (sandboxes alone) or loop (training, and letting a model act); without it, both. Changes nothing, except that it starts
one sandbox and removes it. Exits 3 when something is missing that was asked about; each line says how to get it.`,
});

export const doctor: Action = {
  usage,
  async run(argv, io, signal) {
    const { positionals } = parseArguments(usage, argv);
    const part = oneOf("PART", positionals[0], PARTS);
    // Whoever asks about the loop needs sandboxes too.
    const parts: readonly Part[] = part === "rock" ? ["rock"] : PARTS;
    const checks: Check[] = [];
    for await (const check of checkMachine({ home: io.home, env: io.env, parts }, signal)) {
      if (check.part !== checks.at(-1)?.part) io.print(io.paint("bold", TITLES[check.part]));
      checks.push(check);
      printCheck(check, io);
    }
    const missing = checks.filter((check) => check.state === "missing");
    const ready = Object.fromEntries(parts.map((one) => [one, isReady(one, checks)]));
    io.print("");
    for (const one of parts) io.print(`${TITLES[one]}: ${ready[one] ? "ready" : "not ready"}`);
    io.result({ ok: missing.length === 0, ready, checks });
    return missing.length === 0 ? EXIT.ok : EXIT.missing;
  },
};

const TITLES = { machine: "this machine", rock: "sandboxes", loop: "the loop" } as const;

/** The loop stands on sandboxes, and everything on the machine. */
function isReady(part: Part, checks: readonly Check[]): boolean {
  const needed: readonly Check["part"][] =
    part === "rock" ? ["machine", "rock"] : ["machine", "rock", "loop"];
  return !checks.some((check) => check.state === "missing" && needed.includes(check.part));
}

const MARKS = { ok: ["green", "✓"], weak: ["yellow", "!"], missing: ["red", "✗"] } as const;

function printCheck(check: Check, io: Io): void {
  const [colour, mark] = MARKS[check.state];
  io.print(`${io.paint(colour, mark)} ${check.name.padEnd(16)} ${check.found}`);
  if (check.next !== undefined) io.print(`  ${" ".repeat(16)} ${io.paint("cyan", "next:")} ${check.next}`);
}
