import { constants } from "node:fs";
import { mkdir, open, truncate } from "node:fs/promises";
import { join } from "node:path";
import {
  AleError,
  damagedLog,
  type Event,
  encodeLine,
  readLogBytes,
  scanLogBytes,
  sha256,
  type UnknownEvent,
} from "@ale/core";
import {
  type AlarmLine,
  LedgerEvent,
  type OutsideAlarmLine,
  type OutsideImport,
  type OutsideMatch,
  standingAlarms,
} from "@ale/guard";
import { lockRun } from "@ale/roll";

/**
 * Alarms from outside, in a hash-chained log of their own under $ALE_HOME/alarms: an episode's log is sealed and is never written again. Lines
 * are only ever added.
 */
export interface AlarmLog {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** Each alarm once, as it was matched last. */
  readonly alarms: readonly AlarmLine[];
  readonly imports: readonly KnownImport[];
  /** When alarms were last compared with what was recorded, milliseconds since the epoch; null before the first import. */
  readonly comparedAt: number | null;
}

export interface KnownImport extends OutsideImport {
  /** When it was read, ISO 8601. */
  readonly readAt: string;
  /** All of its alarms are there: a crash in the middle of writing leaves some out. */
  readonly complete: boolean;
}

export const alarmFile = (home: string): string => join(home, "alarms", "alarms.jsonl");

/** Nothing where no file was ever imported. Throws `log.damaged` where a line was changed. */
export async function readAlarmLog(home: string): Promise<AlarmLog> {
  const path = alarmFile(home);
  const bytes = await readLogBytes(path).catch((error: unknown) => {
    if (error instanceof AleError && error.code === "log.missing") return new Uint8Array();
    throw error;
  });
  const { log, fault } = scanLogBytes(path, bytes);
  if (fault !== null) throw damagedLog(path, fault);
  const alarms: AlarmLine[] = [];
  const imports: { event: OutsideImport; readAt: string; found: number }[] = [];
  let comparedAt: number | null = null;
  for (const { seq, hash, at, event } of log.entries) {
    const parsed = LedgerEvent.safeParse(event);
    if (!parsed.success) continue;
    if (parsed.data.type !== "outside.alarm") comparedAt = Date.parse(at);
    if (parsed.data.type === "outside.import") imports.push({ event: parsed.data, readAt: at, found: 0 });
    if (parsed.data.type !== "outside.alarm") continue;
    alarms.push({ seq, hash, line: parsed.data });
    const last = imports.at(-1);
    if (last !== undefined && parsed.data.supersedes === undefined) last.found++;
  }
  const known = imports.map(({ event, readAt, found }) => ({
    ...event,
    readAt,
    complete: found === event.alarms,
  }));
  return { path, bytes, alarms: standingAlarms(alarms), imports: known, comparedAt };
}

/** Those that may belong to incidents of an episode. */
export const alarmsOf = (log: Pick<AlarmLog, "alarms">, episode: string): readonly AlarmLine[] =>
  log.alarms.filter(({ line }) => line.places.some((place) => place.episode === episode));

/** The same, for many episodes. */
export function alarmsByEpisode(log: Pick<AlarmLog, "alarms">): ReadonlyMap<string, readonly AlarmLine[]> {
  const byEpisode = new Map<string, AlarmLine[]>();
  for (const alarm of log.alarms)
    for (const episode of new Set(alarm.line.places.map((place) => place.episode)))
      byEpisode.set(episode, [...(byEpisode.get(episode) ?? []), alarm]);
  return byEpisode;
}

/** One importer at a time: what `work` reads is what it adds to. Throws `run-busy` while another one is at it. */
export async function importing<T>(home: string, work: (log: AlarmLog) => Promise<T>): Promise<T> {
  using _ = lockRun(join(home, "alarms"));
  return work(await readAlarmLog(home));
}

/** An import or a comparison, and the alarms that follow it. */
export interface AlarmEntry {
  readonly event: OutsideImport | OutsideMatch;
  readonly lines: readonly OutsideAlarmLine[];
}

/** So much text is written at once. */
const PIECE_CHARS = 16 << 20;

/** Adds entries. A last line that a crash tore is cut off, which is recorded. */
export async function appendAlarms(log: AlarmLog, entries: readonly AlarmEntry[]): Promise<void> {
  await mkdir(join(log.path, ".."), { recursive: true });
  const { log: read, wholeBytes, torn } = scanLogBytes(log.path, log.bytes);
  if (torn.length > 0) await truncate(log.path, wholeBytes);
  const repair: Event[] =
    torn.length === 0 ? [] : [{ type: "log.repair", droppedBytes: torn.length, droppedSha256: sha256(torn) }];
  const now = new Date();
  const first = read.entries[0];
  const t = first === undefined ? 0 : Math.max(read.entries.at(-1)!.t, now.getTime() - Date.parse(first.at));
  let chain = { seq: read.entries.length, prev: read.head, sealed: false };
  const file = await open(log.path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o644);
  try {
    let text = "";
    for (const one of [...repair, ...entries.flatMap(({ event, lines }) => [event, ...lines])]) {
      const line = encodeLine(one as Event | UnknownEvent, now.toISOString(), t, chain);
      chain = { seq: chain.seq + 1, prev: line.hash, sealed: false };
      text += line.text;
      if (text.length < PIECE_CHARS) continue;
      await file.appendFile(text);
      text = "";
    }
    await file.appendFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
