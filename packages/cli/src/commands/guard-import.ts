import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { AleError, canonicalJson, type EpisodeSummary, readEpisodeLog, sha256 } from "@ale/core";
import {
  alarmDigest,
  alarmLineOf,
  FieldMap,
  type Imported,
  type ImportFault,
  type ImportFormat,
  importAlarms,
  landAlarms,
  networkActsOf,
  type OutsideAlarm,
  type OutsideAlarmLine,
  type OutsideImport,
  type RecordedAct,
} from "@ale/guard";
import { z } from "zod";
import { type AlarmLog, appendAlarms, importing } from "../alarms.ts";
import { defineUsage, oneOf, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { deepPrintable, printable } from "../printable.ts";
import { listRuns, openIndex } from "../runs.ts";
import { msText, percentText } from "../text.ts";

/** `ale guard import`: alarms of somebody else's system, matched to the episodes that caused them, and kept. */

const FORMATS = ["suricata", "falco", "flow", "json"] as const;
const FORMAT_OF: Readonly<Record<(typeof FORMATS)[number], ImportFormat>> = {
  suricata: "suricata",
  falco: "falco",
  flow: "flow-log",
  json: "generic",
};

const usage = defineUsage({
  positionals: "FILE",
  options: {
    format: {
      type: "string",
      value: "FORMAT",
      help: "suricata, falco, flow or json (default: told by the first record)",
    },
    map: {
      type: "string",
      value: "FILE",
      help: "for json: where a record keeps what, as a JSON object of dotted paths",
    },
    run: { type: "string", value: "NAME", help: "match only episodes of this run" },
  },
  notes: `
Reads Suricata EVE, Falco JSON, cloud flow logs (CSV, spaces or JSON), or any JSON with a map such as
{"at": "time", "title": "rule.name", "toIp": "dst.ip", "toPort": "dst.port"}. Each alarm is matched by address, port, name, process and time to what
episodes did; the difference of the clocks is estimated from all alarms together. What was found is kept in $ALE_HOME/alarms, a hash-chained
log of its own, and shown by ale guard incidents and ale guard show. A file that was read before adds nothing; of one that has grown, only
what is new. Exits 1 where a record cannot be read (each is named with its line; the others are kept), or an episode's log cannot.`,
});

export const guardImport: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const word = oneOf("--format", values.format, FORMATS);
    const map = values.map === undefined ? null : await readMap(values.map);
    if (word !== undefined && word !== "json" && map !== null)
      throw usageError(`--map belongs to --format json, not to ${word}`, "leave one of them out");
    const format = word === undefined ? null : FORMAT_OF[word];
    const source = await readSource(positionals[0]!);
    const read = importAlarms(source.text, source.file, {
      ...(format === null ? {} : { format }),
      ...(map === null ? {} : { map }),
    });
    return importing(io.home, async (log) => {
      const before = knownBefore(log, source.sha256, format, map);
      if (before !== undefined) return sayKnown(source.file, before, read, io);
      const fresh = unknownOf(read.alarms, log);
      const compared = await actsNear(fresh, values.run, io, signal);
      const { skew, landings } = landAlarms(fresh, compared.acts);
      const lines = landings.map((landing) => alarmLineOf(landing, skew));
      const event: OutsideImport = {
        type: "outside.import",
        file: source.file,
        sha256: source.sha256,
        bytes: source.bytes,
        format,
        map,
        alarms: lines.length,
        known: read.alarms.length - fresh.length,
        skipped: read.skipped,
        faults: read.faults.slice(0, KEPT_FAULTS).map(({ line, message }) => ({ line, message })),
        faultCount: read.faults.length,
        skew,
        episodes: compared.episodes,
      };
      if (lines.length > 0 || read.alarms.length === 0) await appendAlarms(log, event, lines);
      return sayImported(event, lines, read.faults, compared.unread, io);
    });
  },
};

/** The log names so many; all are printed. */
const KEPT_FAULTS = 100;

async function readMap(path: string): Promise<FieldMap> {
  const text = await readInput(path);
  let value: unknown;
  try {
    value = JSON.parse(text.toString("utf8"));
  } catch (error) {
    throw usageError(
      `--map: ${path} is not JSON: ${(error as Error).message}`,
      'for example {"at": "time", "title": "rule"}',
    );
  }
  const parsed = FieldMap.safeParse(value);
  if (!parsed.success)
    throw usageError(
      `--map: ${path}: ${z.prettifyError(parsed.error)}`,
      "it names dotted paths, at and title among them",
    );
  return parsed.data;
}

interface Source {
  readonly file: string;
  readonly text: string;
  readonly sha256: string;
  readonly bytes: number;
}

async function readSource(path: string): Promise<Source> {
  const bytes = await readInput(path);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b)
    throw usageError(`${path} is compressed`, `gunzip ${path}, and import what comes out`);
  return { file: basename(path), text: bytes.toString("utf8"), sha256: sha256(bytes), bytes: bytes.length };
}

async function readInput(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "EISDIR")
      throw new AleError("file-not-found", `there is no file ${path}`, {
        next: "name the file of alarms",
        cause,
      });
    throw cause;
  }
}

const knownBefore = (
  log: AlarmLog,
  hash: string,
  format: ImportFormat | null,
  map: FieldMap | null,
): AlarmLog["imports"][number] | undefined =>
  log.imports.find(
    (one) =>
      one.complete &&
      one.sha256 === hash &&
      one.format === format &&
      canonicalJson(one.map) === canonicalJson(map),
  );

/** Those that are not there yet. A record that a file has twice is there twice. */
function unknownOf(alarms: readonly OutsideAlarm[], log: AlarmLog): OutsideAlarm[] {
  const known = new Map<string, number>();
  for (const { line } of log.alarms) known.set(line.digest, (known.get(line.digest) ?? 0) + 1);
  return alarms.filter((alarm) => {
    const digest = alarmDigest(alarm);
    const left = known.get(digest) ?? 0;
    if (left > 0) known.set(digest, left - 1);
    return left === 0;
  });
}

interface Compared {
  readonly acts: readonly RecordedAct[];
  readonly episodes: number;
  readonly unread: readonly { readonly episode: string; readonly why: string }[];
}

/** The most that two clocks may differ, as `landAlarms` has it. */
const HOUR_MS = 3_600_000;

/** What episodes that ran around the alarms did towards the network. */
async function actsNear(
  alarms: readonly OutsideAlarm[],
  only: string | undefined,
  io: Io,
  signal: AbortSignal,
): Promise<Compared> {
  const acts: RecordedAct[] = [];
  const unread: Compared["unread"][number][] = [];
  let episodes = 0;
  const times = alarms.map(({ at }) => at).sort((a, b) => a - b);
  for (const run of await listRuns(io.home, only)) {
    using index = await openIndex(run);
    unread.push(...index.refreshed.skipped.map(({ id, why }) => ({ episode: `${run.name}/${id}`, why })));
    for (const summary of index.query().filter((one) => times.length > 0 && isNear(one, times))) {
      signal.throwIfAborted();
      io.progress.status(`comparing with ${summary.id}`);
      try {
        acts.push(...networkActsOf(summary.id, (await readEpisodeLog(summary.path)).entries));
        episodes++;
      } catch (error) {
        if (!(error instanceof AleError)) throw error;
        unread.push({ episode: `${run.name}/${summary.id}`, why: error.message });
      }
    }
  }
  return { acts, episodes, unread };
}

function isNear({ startedAt, wallMs, sealed }: EpisodeSummary, times: readonly number[]): boolean {
  const from = Date.parse(startedAt) - HOUR_MS;
  const to = sealed ? Date.parse(startedAt) + wallMs + HOUR_MS : Number.POSITIVE_INFINITY;
  return times.some((at) => at >= from && at <= to);
}

function sayKnown(file: string, before: AlarmLog["imports"][number], read: Imported, io: Io): number {
  io.print(`${file} was imported already, at ${before.readAt}, as ${before.file}: nothing is added`);
  sayFaults(read.faults, io);
  io.result({
    ok: read.faults.length === 0,
    added: 0,
    known: read.alarms.length,
    importedAt: before.readAt,
    faults: read.faults,
  });
  return read.faults.length === 0 ? EXIT.ok : EXIT.failed;
}

function sayFaults(faults: readonly ImportFault[], io: Io): void {
  for (const { file, line, message } of faults)
    io.print(`${io.paint("red", "unreadable")} ${printable(`${file}:${line}: ${message}`)}`);
}

const SHOWN = 20;

function sayImported(
  event: OutsideImport,
  lines: readonly OutsideAlarmLine[],
  faults: readonly ImportFault[],
  unread: Compared["unread"],
  io: Io,
): number {
  const { file, skew, known, skipped, episodes } = event;
  for (const line of deepPrintable(lines.slice(0, SHOWN))) sayAlarm(line, io);
  if (lines.length > SHOWN) io.print(`and ${lines.length - SHOWN} more`);
  sayFaults(faults, io);
  for (const { episode, why } of unread)
    io.print(`${io.paint("red", "unread")} ${printable(`${episode}: ${why}`)}`);
  const count = (status: OutsideAlarmLine["status"]): number =>
    lines.filter((line) => line.status === status).length;
  const already = known === 0 ? "" : `, ${known} were here already`;
  io.print(
    `${printable(file)}: ${lines.length} alarms added${already}, ${skipped} records are no alarms, ${faults.length} cannot be read`,
  );
  io.print(
    `${count("matched")} matched, ${count("ambiguous")} ambiguous, ${count("unmatched")} unmatched, against ${episodes} episodes`,
  );
  if (skew.support > 0)
    io.print(
      `its clock is ${msText(Math.abs(skew.offsetMs))} ${skew.offsetMs >= 0 ? "ahead of" : "behind"} ours, give or take ${msText(skew.spreadMs)} (${skew.support} alarms agree)`,
    );
  const ok = faults.length === 0 && unread.length === 0;
  io.result({ ok, added: lines.length, known, skipped, skew, episodes, alarms: lines, faults, unread });
  return ok ? EXIT.ok : EXIT.failed;
}

function sayAlarm({ alarm, status, places, unexplained }: OutsideAlarmLine, io: Io): void {
  const colour = status === "matched" ? "green" : status === "ambiguous" ? "yellow" : "dim";
  const to = [alarm.toIp ?? alarm.host, alarm.toPort].filter((part) => part !== null).join(":");
  io.print(
    `${io.paint(colour, status.padEnd(9))} ${alarm.id}: ${alarm.title}${to === "" ? "" : `, to ${to}`}`,
  );
  const shown = status === "matched" ? places.slice(0, 3) : status === "ambiguous" ? places.slice(0, 5) : [];
  for (const { episode, chunk, callId, confidence } of shown)
    io.print(
      `  ${percentText(confidence).padStart(5)}  ${episode} ${chunk === null ? "outside the agent's time" : `chunk ${chunk}`}${callId === null ? "" : ` (${callId})`}`,
    );
  if (status === "ambiguous") io.print(`  ${percentText(unexplained).padStart(5)}  none of ours`);
}
