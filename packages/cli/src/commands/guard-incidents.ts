import { Severity } from "@ale/core";
import type { OutsideAlarmLine } from "@ale/guard";
import { defineUsage, oneOf, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { type IncidentList, listIncidents } from "../incidents.ts";
import type { Io } from "../io.ts";
import { deepPrintable, printable } from "../printable.ts";
import { severityPaint } from "../show-incident.ts";
import { table } from "../table.ts";
import { wrapped } from "../text.ts";
import { unsoundEpisodes } from "../unsound.ts";

/** `ale guard incidents`: what was attempted, the newest first. */

const usage = defineUsage({
  positionals: "",
  options: {
    run: { type: "string", value: "NAME", help: "only of this run" },
    since: {
      type: "string",
      value: "WHEN",
      help: "only since then: 30m, 12h, 7d, or a date such as 2026-03-01",
    },
    "min-severity": {
      type: "string",
      value: "SEVERITY",
      help: "only low, medium, high or critical and above",
    },
    limit: { type: "string", value: "N", help: "at most so many, the newest first (default 30; 0: all)" },
  },
  notes: `
One attempt is one incident, however many rules and collectors told of it; alarms from outside (ale guard import) are counted with it.
Alarms that belong to no episode, or could belong to several, are listed below. Every log is compared with what it was when it was read first, and
with what its run says of it. Exits 1 where one cannot be read, was changed or is gone; each is named below the list.
example: ale guard incidents --since 12h --min-severity high`,
});

export const guardIncidents: Action = {
  usage,
  async run(argv, io, signal) {
    const { values } = parseArguments(usage, argv);
    const since = sinceMs(values.since, Date.now());
    const minSeverity = oneOf("--min-severity", values["min-severity"], Severity.options);
    const limit = wholeNumber("--limit", values.limit) ?? 30;
    io.progress.status("reading what is recorded");
    const list = await listIncidents(
      io.home,
      {
        ...(values.run === undefined ? {} : { run: values.run }),
        ...(since === undefined ? {} : { since }),
        ...(minSeverity === undefined ? {} : { minSeverity }),
      },
      signal,
    );
    io.progress.status("comparing the logs with what they were");
    const unsound = await unsoundEpisodes(io.home, values.run, signal);
    const shown = limit > 0 ? list.incidents.slice(0, limit) : list.incidents;
    const adrift = list.alarms.alarms.map(({ line }) => line).filter(({ status }) => status !== "matched");
    printList(list, shown.length, io);
    printAdrift(adrift, io);
    for (const { run, id, state, why } of unsound)
      io.print(`${io.paint("red", state)} ${printable(`${run}/${id}: ${why}`)}`);
    io.result({
      ok: unsound.length === 0,
      total: list.incidents.length,
      episodes: list.episodes,
      incidents: shown,
      unplacedAlarms: adrift,
      unsound,
    });
    return unsound.length === 0 ? EXIT.ok : EXIT.failed;
  },
};

const UNIT_MS: Readonly<Record<string, number>> = { s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7, w: 6.048e8 };

/** `12h` before now, or a date. Throws `usage`. */
export function sinceMs(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  const [, amount, unit] = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(text) ?? [];
  if (amount !== undefined) return nowMs - Number(amount) * UNIT_MS[unit!]!;
  const date = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(date))
    throw usageError(
      `--since: ${JSON.stringify(text)} is neither a time span nor a date`,
      "--since 12h or --since 2026-03-01T04:00Z",
    );
  return date;
}

function printList({ incidents, episodes }: IncidentList, count: number, io: Io): void {
  if (incidents.length === 0) {
    io.print(`no incidents in ${episodes} episodes`);
    return;
  }
  const shown = deepPrintable(incidents.slice(0, count));
  const rows = shown.map(({ id, at, severity, rule, signals, episode, chunk, what }) => [
    id,
    clock(at),
    severityPaint(severity, io)(severity),
    rule === "outside" ? `outside: ${signals[0]!.title ?? ""}` : rule,
    `${tail(episode)}:${chunk}`,
    what ?? "",
  ]);
  const titles = ["when (UTC)", "severity", "rule", "episode", "what"].map((title) => ({ title }));
  const columns = [{ title: "incident", whole: true as const }, ...titles];
  const [head = "", ...body] = table(columns, rows, io.columns);
  io.print(io.paint("dim", head));
  for (const line of body) io.print(line);
  const hidden = incidents.length - count;
  io.print("");
  const more = hidden > 0 ? `, ${hidden} more with --limit 0` : "";
  const total = `${incidents.length} incidents in ${episodes} episodes${more}`;
  for (const line of wrapped(`${total}; follow one: ale guard show ${shown[0]!.id}`, io.columns ?? Infinity))
    io.print(line);
}

function printAdrift(lines: readonly OutsideAlarmLine[], io: Io): void {
  if (lines.length === 0) return;
  io.print("");
  io.print(io.paint("bold", "Alarms from outside that could not be placed"));
  for (const { alarm, status, places, why } of deepPrintable(lines.slice(0, 20))) {
    const to = [alarm.toIp ?? alarm.host, alarm.toPort].filter((part) => part !== null).join(":");
    io.print(`  ${clock(alarm.at)}  ${status.padEnd(9)}  ${alarm.title}  ${to}  (${alarm.id})`);
    if (why !== undefined) io.print(`      ${why.detail}`);
    for (const { episode, chunk, confidence } of status === "ambiguous" ? places.slice(0, 4) : [])
      io.print(`      ${(100 * confidence).toFixed(0).padStart(3)} %  ${episode} chunk ${chunk ?? "none"}`);
  }
  if (lines.length > 20) io.print(`  and ${lines.length - 20} more (--json has all)`);
}

/** Ids of one run begin alike. */
const tail = (episode: string): string => (episode.length <= 12 ? episode : `…${episode.slice(-8)}`);

const clock = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace("T", " ");
