import { constants } from "node:fs";
import { mkdir, open, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { damagedLog, type Event, encodeLine, scanLogBytes, sha256, type UnknownEvent } from "@ale/core";
import { type AlarmLine, LedgerEvent, type OutsideAlarmLine, type OutsideImport } from "@ale/guard";
import { lockRun } from "@ale/roll";

/**
 * Alarms from outside, in a hash-chained log of their own under $ALE_HOME/alarms: an episode's log is sealed and is never written again. Lines
 * are only ever added.
 */
export interface AlarmLog {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly alarms: readonly AlarmLine[];
  readonly imports: readonly KnownImport[];
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
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return new Uint8Array();
    throw error;
  });
  const { log, fault } = scanLogBytes(path, bytes);
  if (fault !== null) throw damagedLog(path, fault);
  const alarms: AlarmLine[] = [];
  const imports: { event: OutsideImport; readAt: string; found: number }[] = [];
  for (const { seq, hash, at, event } of log.entries) {
    const parsed = LedgerEvent.safeParse(event);
    if (!parsed.success) continue;
    if (parsed.data.type === "outside.import") imports.push({ event: parsed.data, readAt: at, found: 0 });
    else {
      alarms.push({ seq, hash, line: parsed.data });
      const last = imports.at(-1);
      if (last !== undefined) last.found++;
    }
  }
  const known = imports.map(({ event, readAt, found }) => ({
    ...event,
    readAt,
    complete: found === event.alarms,
  }));
  return { path, bytes, alarms, imports: known };
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

/** Adds an import and its alarms. A last line that a crash tore is cut off, which is recorded. */
export async function appendAlarms(
  log: AlarmLog,
  event: OutsideImport,
  lines: readonly OutsideAlarmLine[],
): Promise<void> {
  await mkdir(join(log.path, ".."), { recursive: true });
  const { log: read, wholeBytes, torn } = scanLogBytes(log.path, log.bytes);
  if (torn.length > 0) await truncate(log.path, wholeBytes);
  const repair: Event[] =
    torn.length === 0 ? [] : [{ type: "log.repair", droppedBytes: torn.length, droppedSha256: sha256(torn) }];
  const now = new Date();
  const first = read.entries[0];
  const t = first === undefined ? 0 : Math.max(read.entries.at(-1)!.t, now.getTime() - Date.parse(first.at));
  let chain = { seq: read.entries.length, prev: read.head, sealed: false };
  let text = "";
  for (const one of [...repair, event, ...lines]) {
    const line = encodeLine(one as Event | UnknownEvent, now.toISOString(), t, chain);
    chain = { seq: chain.seq + 1, prev: line.hash, sealed: false };
    text += line.text;
  }
  const file = await open(log.path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o644);
  try {
    await file.appendFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
