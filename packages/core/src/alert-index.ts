import type { DatabaseSync } from "node:sqlite";
import { Alert, type Severity } from "./event.ts";
import type { LogEntry } from "./log-line.ts";
import { severityRank } from "./severity.ts";

/**
 * The alerts of all logs, one row each, so that they can be listed and grouped without opening a log. Part of the episode index, and like it
 * nothing but a copy.
 */
export interface AlertRow {
  readonly episode: string;
  /** Of its line. */
  readonly seq: number;
  readonly hash: string;
  /** When the line was written, in milliseconds since the epoch; see `lineTimeMs`. */
  readonly writtenAt: number;
  readonly alert: Alert;
}

export interface AlertQuery {
  readonly episode?: string;
  readonly run?: string;
  /** All alerts of episodes that have one of at least this severity. */
  readonly minSeverity?: Severity;
  /** All alerts of episodes that have one written at this time or later. */
  readonly writtenSince?: number;
}

export const ALERT_SCHEMA = `
  CREATE TABLE alert (episode TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL, writtenAt REAL NOT NULL,
    alert TEXT NOT NULL, PRIMARY KEY (episode, seq)) WITHOUT ROWID;
  CREATE INDEX alert_written ON alert (writtenAt);`;

/**
 * When a line was written: the wall time of the log's first line and the monotonic time since. To the microsecond, and a wall clock that
 * jumps in the middle of an episode does not tear its lines apart.
 */
export const lineTimeMs = (first: Pick<LogEntry, "at" | "t">, line: Pick<LogEntry, "t">): number =>
  Date.parse(first.at) + line.t - first.t;

/** The alerts of one log, as rows. */
export function alertRowsOf(episode: string, entries: readonly LogEntry[]): AlertRow[] {
  return entries.flatMap((entry): AlertRow[] => {
    if (!entry.known || entry.event.type !== "alert") return [];
    const writtenAt = lineTimeMs(entries[0]!, entry);
    return [{ episode, seq: entry.seq, hash: entry.hash, writtenAt, alert: entry.event.alert }];
  });
}

/** Puts these in place of what the index had of the episode. */
export function replaceAlerts(db: DatabaseSync, episode: string, rows: readonly AlertRow[]): void {
  db.prepare("DELETE FROM alert WHERE episode = ?").run(episode);
  if (rows.length === 0) return;
  const insert = db.prepare("INSERT INTO alert VALUES (?, ?, ?, ?, ?)");
  for (const { seq, hash, writtenAt, alert } of rows)
    insert.run(episode, seq, hash, writtenAt, JSON.stringify(alert));
}

/** By episode, then as they were written. */
export function selectAlerts(db: DatabaseSync, query: AlertQuery): AlertRow[] {
  const conditions: readonly (readonly [string, string | number | undefined])[] = [
    ["alert.episode = ?", query.episode],
    ["alert.episode IN (SELECT id FROM episode WHERE run = ?)", query.run],
    [
      "alert.episode IN (SELECT id FROM episode WHERE severityRank >= ?)",
      query.minSeverity && severityRank(query.minSeverity),
    ],
    ["alert.episode IN (SELECT episode FROM alert WHERE writtenAt >= ?)", query.writtenSince],
  ];
  const given = conditions.flatMap(([term, value]) => (value === undefined ? [] : [{ term, value }]));
  const where = given.length === 0 ? "" : `WHERE ${given.map(({ term }) => term).join(" AND ")}`;
  const rows = db
    .prepare(`SELECT episode, seq, hash, writtenAt, alert FROM alert ${where} ORDER BY episode, seq`)
    .all(...given.map(({ value }) => value));
  return rows.map((row) => ({
    episode: String(row.episode),
    seq: Number(row.seq),
    hash: String(row.hash),
    writtenAt: Number(row.writtenAt),
    alert: Alert.parse(JSON.parse(String(row.alert))),
  }));
}
