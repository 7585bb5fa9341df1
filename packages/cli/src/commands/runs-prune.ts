import { readdirSync } from "node:fs";
import { join } from "node:path";
import { AleError, suggest } from "@ale/core";
import { type Leftover, leftoversOf, pruneRun, runDirectory } from "@ale/roll";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { bytes } from "../rock/format.ts";

const usage = defineUsage({
  positionals: "[RUN...]",
  options: { "dry-run": { type: "boolean", help: "only say what would be removed" } },
  notes: `
Removes checkpoints that no run will load again: a sitting that was killed leaves some. Without RUN, of all runs. The newest checkpoints,
models and episodes are kept, and a run that is being worked on is left alone.`,
});

interface Pruned extends Leftover {
  readonly run: string;
}

export const runsPrune: Action = {
  usage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(usage, argv);
    const names = positionals.length > 0 ? positionals : runNames(io.home);
    for (const name of positionals) requireRun(io.home, name);
    const removed: Pruned[] = [];
    const busy: string[] = [];
    for (const run of names) {
      const found = work(io, run, values["dry-run"] ? leftoversOf : pruneRun);
      if (found === undefined) busy.push(run);
      else removed.push(...found.map((leftover) => ({ run, ...leftover })));
    }
    for (const one of removed) io.print(`${bytes(one.bytes).padStart(6)}  ${one.path}`);
    const total = removed.reduce((sum, one) => sum + one.bytes, 0);
    const verb = values["dry-run"] ? "could be removed" : "removed";
    io.print(`${removed.length} checkpoints ${verb}, ${bytes(total)}`);
    io.result({ dryRun: values["dry-run"], removed, bytes: total, busy });
    return EXIT.ok;
  },
};

/** Undefined where somebody works on it. */
function work(
  io: Io,
  run: string,
  prune: (directory: string) => readonly Leftover[],
): readonly Leftover[] | undefined {
  try {
    return prune(runDirectory(io.home, run));
  } catch (error) {
    if (!(error instanceof AleError) || error.code !== "run-busy") throw error;
    io.note(`${run} is left alone: ${error.message}`);
    return undefined;
  }
}

function runNames(home: string): string[] {
  try {
    return readdirSync(join(home, "runs")).sort();
  } catch {
    return [];
  }
}

function requireRun(home: string, name: string): void {
  const known = runNames(home);
  if (known.includes(name)) return;
  const near = suggest(name, known);
  throw new AleError("run-unknown", `there is no run ${name} in ${join(home, "runs")}`, {
    next: near === undefined ? `it has: ${known.join(", ") || "none yet"}` : `did you mean ${near}?`,
  });
}
