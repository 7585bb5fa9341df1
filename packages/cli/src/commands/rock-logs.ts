import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { SandboxView } from "@ale/rock/client";
import type { AuditEntry } from "@ale/rock/server";
import { defineUsage, parseArguments, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { printable } from "../printable.ts";
import { withRock } from "../rock/client.ts";

const usage = defineUsage({
  positionals: "ID",
  options: {
    lines: { type: "string", short: "n", value: "N", help: "the last N calls (default 50; 0: all)" },
  },
  notes: `
The states that a sandbox went through, why it failed where it did, the calls that were made about it, and what its container runtime and
PID 1 said since it last started. Calls come from the audit log of this home, and with $ALE_ROCK_URL only the states are shown; what the
runtime said is seen by root alone, until the sandbox is removed.`,
});

export const rockLogs: Action = {
  usage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(usage, argv);
    const id = positionals[0]!;
    const view = await withRock(io, (client) => client.sandboxes.get(id));
    const lines = wholeNumber("--lines", values.lines) ?? 50;
    const isLocal = (io.env.ALE_ROCK_URL ?? "") === "";
    const all = isLocal ? callsAbout(io.home, view) : [];
    const calls = lines === 0 ? all : all.slice(-lines);
    for (const { time, text } of merged(view, calls, io)) io.print(`${io.paint("dim", time)}  ${text}`);
    if (view.failure !== null) {
      io.print(`${io.paint("red", "failed:")} ${printable(view.failure.message)}`);
      if (view.failure.next !== null) io.print(`${io.paint("cyan", "next:")}   ${view.failure.next}`);
    }
    if (all.length > calls.length) io.note(`${all.length - calls.length} earlier calls: --lines 0`);
    const said = isLocal ? await runtimeLog(io.home, view.id) : undefined;
    for (const line of said?.trimEnd().split("\n") ?? [])
      io.print(`${io.paint("dim", "runtime:")} ${printable(line)}`);
    io.result({ history: view.history, failure: view.failure, calls, runtime: said ?? null });
    return EXIT.ok;
  },
};

/** Empty as long as nothing is wrong. */
async function runtimeLog(home: string, id: string): Promise<string | undefined> {
  const { readRuntimeLog } = await import("@ale/rock");
  const text = readRuntimeLog(home, id);
  return text?.trim() === "" ? undefined : text;
}

interface Line {
  readonly time: string;
  readonly text: string;
}

function merged(view: SandboxView, calls: readonly AuditEntry[], io: Io): Line[] {
  const states = view.history.map(({ to, event, atMs }) => ({
    time: new Date(atMs).toISOString(),
    text: io.paint("bold", `${to} (${event})`),
  }));
  const asked = calls.map((call) => ({ time: call.time, text: callText(call, io) }));
  return [...states, ...asked].sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
}

function callText(call: AuditEntry, io: Io): string {
  const status = call.status >= 400 ? io.paint("red", String(call.status)) : String(call.status);
  const about = call.argv === null ? "" : `  argv ${call.argv.slice(0, 12)}`;
  const route = printable(call.route).replace("/v1/sandboxes/:sandboxId", "…");
  return `${status} ${call.method.padEnd(6)} ${route}  ${call.ms.toFixed(0)} ms${about}  by ${printable(call.token ?? "-")}`;
}

function callsAbout(home: string, view: SandboxView): AuditEntry[] {
  const directory = join(home, "rock", "audit");
  let files: string[];
  try {
    files = readdirSync(directory).sort();
  } catch {
    return [];
  }
  const since = new Date(view.createdAtMs).toISOString().slice(0, 10);
  return files
    .filter((name) => (/\d{4}-\d{2}-\d{2}/.exec(name)?.[0] ?? since) >= since)
    .flatMap((name) => readFileSync(join(directory, name), "utf8").split("\n"))
    .filter((line) => line.includes(view.id))
    .flatMap((line) => parsed(line))
    .filter((entry) => entry.sandbox === view.id && entry.tenant === view.tenant);
}

/** The last line of a crashed server may be torn. */
function parsed(line: string): AuditEntry[] {
  try {
    return [JSON.parse(line) as AuditEntry];
  } catch {
    return [];
  }
}
