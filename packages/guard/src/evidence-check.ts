import { gunzipSync } from "node:zlib";
import {
  canonicalJson,
  type DecodedLine,
  decodeLine,
  GENESIS,
  scanLogBytes,
  schemaFault,
  sha256,
} from "@ale/core";
import { EvidenceBundle } from "./evidence.ts";
import { incidentsOf } from "./incidents.ts";
import { type AlarmLine, LedgerEvent, standingAlarms } from "./outside/ledger.ts";

/** Checks a bundle: against itself, and against the log that it came from. Every step says what it looked at and what it found. */
export interface Finding {
  /** `open`: it cannot be said from what is at hand. */
  readonly result: "holds" | "fails" | "open";
  readonly what: string;
  readonly detail: string;
}

/** A log that a bundle carries is not unpacked beyond this. */
const MAX_LOG_BYTES = 512 * 2 ** 20;

export type ReadBundle =
  | { readonly ok: true; readonly bundle: EvidenceBundle }
  | { readonly ok: false; readonly why: string };

export function readBundle(value: unknown): ReadBundle {
  const parsed = EvidenceBundle.safeParse(value);
  return parsed.success
    ? { ok: true, bundle: parsed.data }
    : { ok: false, why: `it is no evidence bundle: ${schemaFault(parsed.error, value)}` };
}

/**
 * What the bundle says of itself. Throws for nothing that may stand in it. `raw`: the bundle as it was read, with fields that only a newer
 * version knows.
 */
export function checkBundle(bundle: EvidenceBundle, raw: unknown = bundle): Finding[] {
  return [
    digestFinding(raw as EvidenceBundle),
    linesFinding(bundle),
    headFinding(bundle),
    sealFinding(bundle),
    ...fullFindings(bundle),
    ...alarmFindings(bundle),
  ];
}

const holds = (what: string, detail: string): Finding => ({ result: "holds", what, detail });
const fails = (what: string, detail: string): Finding => ({ result: "fails", what, detail });

function digestFinding({ digest, signature: _, ...body }: EvidenceBundle): Finding {
  const text = canonicalOf(body);
  if (text === null) return fails("digest", "the content has no canonical form");
  const own = sha256(text);
  return own === digest
    ? holds("digest", `${digest.slice(0, 16)}… is that of the content`)
    : fails("digest", `the bundle says ${digest}, its content gives ${own}`);
}

/** JSON text can say what has none: 1e999 reads as infinity, and nesting can exceed the stack. */
function canonicalOf(value: unknown): string | null {
  try {
    return canonicalJson(value);
  } catch {
    return null;
  }
}

function decoded(text: string, seq: number, prev: string): DecodedLine {
  return decodeLine(Buffer.from(text), { seq, prev, sealed: false });
}

function linesFinding({ lines, chain, incident }: EvidenceBundle): Finding {
  for (const { seq, text } of lines) {
    const line = decoded(text, seq, seq === 0 ? GENESIS : (chain[seq - 1] ?? ""));
    if (!line.ok) return fails("lines", `line ${seq + 1}: ${line.reason}: ${line.detail}`);
    if (line.entry.hash !== chain[seq])
      return fails("lines", `line ${seq + 1} has another hash than the chain: ${line.entry.hash}`);
  }
  const there = new Set(lines.map(({ seq }) => seq));
  const missing = incident.lines.filter((seq) => !there.has(seq));
  return missing.length === 0
    ? holds("lines", `${lines.length} lines have the hashes that the chain has at their places`)
    : fails(
        "lines",
        `the incident rests on lines that are not here: ${missing.map((seq) => seq + 1).join(", ")}`,
      );
}

function headFinding({ log, chain, lines }: EvidenceBundle): Finding {
  if (chain.length !== log.events || chain.at(-1) !== log.head)
    return fails(
      "head",
      `the chain has ${chain.length} hashes and ends in ${chain.at(-1)}, not in the head of ${log.events}`,
    );
  const last = lines.at(-1)!;
  const isSeal = last.seq === log.events - 1 && last.text.includes('"type":"episode.seal"');
  if (log.sealed && !isSeal) return fails("head", "it is called sealed, and its last line is no seal");
  return holds(
    "head",
    `${log.sealed ? "sealed" : "not sealed"}, ${log.events} lines, ${log.head.slice(0, 16)}…`,
  );
}

/** A chain that holds says nothing of lines that were cut off behind it. */
function sealFinding({ log }: EvidenceBundle): Finding {
  const what = "seal";
  if (log.sealed) return holds(what, "the log was sealed when this was made: nothing came after");
  const detail =
    "the log was not sealed when this was made: the episode still ran, was killed, or its end was cut off";
  return { result: "open", what, detail };
}

function fullFindings(bundle: EvidenceBundle): Finding[] {
  const { full, log, chain, lines, incident } = bundle;
  const what = "whole log";
  if (full === null)
    return [
      {
        result: "open",
        what,
        detail:
          "it is not in the bundle, so that lines between those shown are known by their hashes alone: compare with the log",
      },
    ];
  let bytes: Buffer;
  try {
    bytes = gunzipSync(Buffer.from(full.data, "base64"), { maxOutputLength: MAX_LOG_BYTES });
  } catch (error) {
    return [fails(what, `it cannot be unpacked: ${error instanceof Error ? error.message : String(error)}`)];
  }
  if (sha256(bytes) !== log.sha256 || bytes.length !== log.bytes)
    return [fails(what, `its SHA-256 is ${sha256(bytes)}, the bundle says ${log.sha256}`)];
  const scan = scanLogBytes(log.file, bytes);
  if (scan.fault !== null)
    return [fails(what, `line ${scan.fault.line}: ${scan.fault.reason}: ${scan.fault.detail}`)];
  const { entries } = scan.log;
  const differs = entries.findIndex((entry, seq) => entry.hash !== chain[seq]);
  if (differs >= 0 || entries.length !== chain.length || scan.log.sealed !== log.sealed)
    return [
      fails(
        what,
        `from line ${differs < 0 ? entries.length : differs + 1} on it is not the chain of the bundle`,
      ),
    ];
  const text = bytes.toString("utf8").split("\n");
  const other = lines.find((line) => text[line.seq] !== line.text);
  if (other !== undefined) return [fails(what, `line ${other.seq + 1} of it is not the one shown`)];
  const found = incidentsOf(entries, alarmLinesOf(bundle)).find(({ id }) => id === incident.id);
  return [
    holds(what, `${entries.length} lines, each with the hash of the one before`),
    found !== undefined && canonicalOf(found) === canonicalOf(incident)
      ? holds("story", "what is said of the incident is what the log says")
      : fails(
          "story",
          `the log gives ${found === undefined ? "no incident of this name" : "another account of it"}`,
        ),
  ];
}

/** What a line says of its own place: its neighbours are not in the bundle. */
const PLACE = /"prev":"([0-9a-f]{64})","seq":(\d+),"t":[^,]+,"v":1\}$/;
const prevIn = (text: string): string => PLACE.exec(text)?.[1] ?? "";
const seqIn = (text: string): number => Number(PLACE.exec(text)?.[2] ?? 0);

/** The alarms of a bundle, as `incidentsOf` takes them. Lines that are none are left out. */
function alarmLinesOf({ alarms }: EvidenceBundle): AlarmLine[] {
  const lines = (alarms?.lines ?? []).flatMap(({ text }): AlarmLine[] => {
    const line = decoded(text, seqIn(text), prevIn(text));
    if (!line.ok) return [];
    const { seq, hash, event } = line.entry;
    const parsed = LedgerEvent.safeParse(event);
    return parsed.success && parsed.data.type === "outside.alarm" ? [{ seq, hash, line: parsed.data }] : [];
  });
  return standingAlarms(lines);
}

function alarmFindings({ alarms, incident }: EvidenceBundle): Finding[] {
  const what = "alarms";
  if (alarms === null)
    return incident.alarms.length === 0
      ? []
      : [fails(what, "the incident has alarms whose lines are not here")];
  const hashes = new Map<number, string>();
  for (const { seq, text } of alarms.lines) {
    const line = decoded(text, seq, prevIn(text));
    if (!line.ok) return [fails(what, `line ${seq + 1}: ${line.reason}: ${line.detail}`)];
    hashes.set(seq, line.entry.hash);
  }
  const wrong = incident.alarms.find(({ seq, hash }) => hashes.get(seq) !== hash);
  return wrong === undefined
    ? [holds(what, `${incident.alarms.length} from outside, with the lines that were kept of them`)]
    : [fails(what, `${wrong.id} is not the line ${wrong.seq + 1} that is here`)];
}

/** Whether a bundle is of this log. One that was made before the log was sealed must be its beginning. */
export function compareWithLog(bundle: EvidenceBundle, path: string, bytes: Uint8Array): Finding {
  const what = "log";
  const { log, fault } = scanLogBytes(path, bytes);
  if (fault !== null)
    return fails(what, `${path}, line ${fault.line} is broken (${fault.reason}): ${fault.detail}`);
  const differs = bundle.chain.findIndex((hash, seq) => log.entries[seq]?.hash !== hash);
  if (differs >= 0)
    return fails(
      what,
      differs >= log.entries.length
        ? `${path} ends after ${log.entries.length} lines, the bundle knows ${bundle.chain.length}`
        : `${path}, line ${differs + 1} is not the line that the bundle was made from`,
    );
  if (bundle.log.sealed && log.entries.length !== bundle.chain.length)
    return fails(what, `${path} has lines after the seal that the bundle names`);
  const more = log.entries.length - bundle.chain.length;
  return holds(
    what,
    `${path} has the same ${bundle.chain.length} lines${more === 0 ? "" : `, and ${more} since`}`,
  );
}
