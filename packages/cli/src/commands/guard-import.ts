import { canonicalJson } from "@ale/core";
import {
  alarmDigest,
  alarmLineOf,
  anchorsOf,
  type FieldMap,
  type ImportFormat,
  landAlarms,
  mainClock,
  type OutsideAlarm,
  type OutsideImport,
} from "@ale/guard";
import { actsNear } from "../acts-near.ts";
import { readAlarmFile, readFieldMap } from "../alarm-file.ts";
import { type AlarmLog, appendAlarms, importing } from "../alarms.ts";
import { defineUsage, oneOf, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { KEPT_CLOCKS, matchAgain } from "../match-again.ts";
import { FORMAT_OF, FORMATS, sayImported, sayKnown } from "../show-import.ts";

/** `ale guard import`: alarms of somebody else's system, matched to the episodes that caused them, and kept. */

const usage = defineUsage({
  positionals: "FILE",
  options: {
    format: {
      type: "string",
      value: "FORMAT",
      help: "suricata, falco, flow or json (default: what most of the first records are)",
    },
    map: {
      type: "string",
      value: "FILE",
      help: "for json: where a record keeps what, as a JSON object of dotted paths",
    },
    run: { type: "string", value: "NAME", help: "match only episodes of this run" },
  },
  notes: `
Reads Suricata EVE, Falco JSON, flow and firewall logs of AWS, Google Cloud and Azure (JSON, CSV or spaces), or any JSON with a map such as
{"at": "time", "title": "rule.name", "toIp": "dst.ip", "toPort": "dst.port"}; also compressed with gzip. Each alarm is matched by address, port,
name, process, container and time to what episodes did; the difference of the clocks is estimated from the alarms. What was found is kept in
$ALE_HOME/alarms, a hash-chained log of its own, and shown by ale guard incidents and ale guard show. A file that was read before adds nothing; of
one that has grown, only what is new. Alarms of before that were not placed are compared with what was recorded since. Exits 1 where the file is empty, a record cannot be read (each is named with its place; the others are
kept), or an episode's log cannot; 2 where nothing says what the file is.`,
});

export const guardImport: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const word = oneOf("--format", values.format, FORMATS);
    const map = values.map === undefined ? null : await readFieldMap(values.map);
    if (word !== undefined && word !== "json" && map !== null)
      throw usageError(`--map belongs to --format json, not to ${word}`, "leave one of them out");
    const format = word === undefined ? null : FORMAT_OF[word];
    io.progress.status(`reading ${positionals[0]!}`);
    const source = await readAlarmFile(
      positionals[0]!,
      { ...(format === null ? {} : { format }), ...(map === null ? {} : { map }) },
      signal,
    );
    const { read } = source;
    return importing(io.home, async (log) => {
      const before = knownBefore(log, source.sha256, format, map);
      if (before !== undefined) {
        const again = await matchAgain(log, io, signal);
        if (again.entries.length > 0) await appendAlarms(log, again.entries);
        return sayKnown(source, before, again, io);
      }
      const fresh = unknownOf(read.alarms, log);
      const near = await actsNear(fresh, values.run, io, signal);
      const { clocks, landings } = landAlarms(fresh, near.acts, { anchors: anchorsOf(log.alarms) });
      const lines = landings.map(alarmLineOf);
      const event: OutsideImport = {
        type: "outside.import",
        file: source.file,
        sha256: source.sha256,
        bytes: source.bytes,
        format,
        map,
        alarms: lines.length,
        known: read.alarms.length - fresh.length,
        records: read.records,
        skipped: read.skipped,
        skippedFor: read.skippedFor,
        faults: read.faults.map(({ file: _, ...fault }) => fault),
        faultCount: read.faultCount,
        skew: mainClock(clocks),
        clocks: clocks.slice(0, KEPT_CLOCKS),
        episodes: near.episodes,
      };
      const again = await matchAgain(log, io, signal);
      const isNew = lines.length > 0 || read.alarms.length === 0;
      const entries = [...again.entries, ...(isNew ? [{ event, lines }] : [])];
      if (entries.length > 0) await appendAlarms(log, entries);
      const named = format !== null || map !== null;
      return sayImported({ event, lines, read, again, unread: near.unread, named }, io);
    });
  },
};

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
