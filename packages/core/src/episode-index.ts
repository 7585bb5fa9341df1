import { mkdir } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import {
  ALERT_SCHEMA,
  type AlertQuery,
  type AlertRow,
  alertRowsOf,
  replaceAlerts,
  selectAlerts,
} from "./alert-index.ts";
import {
  chainHead,
  damagedLog,
  type EpisodeLog,
  type KnownLog,
  notAsRead,
  readLogBytes,
  scanLogBytes,
} from "./episode-reader.ts";
import type { EpisodeStore } from "./episode-store.ts";
import { type EpisodeSummary, summaryOf } from "./episode-summary.ts";
import { type Purpose, Severity } from "./event.ts";
import { copyInMemory, isDatabaseError, openSound, replaceDatabase, unusable } from "./index-database.ts";
import { AleError } from "./result.ts";
import { severityRank } from "./severity.ts";

/**
 * A SQLite index over the logs of one store: one row an episode and one an alert, for lists and queries. It holds nothing that the logs did not say
 * when they were read; deleted, corrupted or outdated, it is rebuilt from them. What it has of a log is not given up for one that contradicts it.
 */
export interface EpisodeQuery {
  readonly id?: string;
  readonly run?: string;
  readonly group?: string;
  readonly family?: string;
  readonly purpose?: Purpose;
  readonly version?: number;
  readonly sealed?: boolean;
  readonly violation?: boolean;
  readonly minSeverity?: Severity;
  /** Inclusive bounds; episodes without a reward are left out when either is given. */
  readonly minReward?: number;
  readonly maxReward?: number;
  /** Default `startedAt`. Equal values are ordered by id. */
  readonly orderBy?: "startedAt" | "reward" | "wallMs" | "chunks" | "tokens" | "alerts";
  readonly descending?: boolean;
  readonly limit?: number;
  readonly offset?: number;
}

export interface RefreshReport {
  /** Logs read and written to the index. */
  readonly indexed: readonly string[];
  /** Rows whose log is gone. */
  readonly removed: readonly string[];
  /** Logs that could not be indexed, and why. They are left alone, and so is what the index had of them. */
  readonly skipped: readonly UnsoundLog[];
}

export interface UnsoundLog {
  readonly id: string;
  readonly why: string;
}

/** Raised whenever the columns or their meaning change; an index of another number is rebuilt. */
const INDEX_VERSION = 2;

/** Column types in the order of `EpisodeSummary`. `severityRank` is there for comparisons only. */
const COLUMNS = {
  id: "TEXT PRIMARY KEY",
  run: "TEXT",
  group: "TEXT",
  purpose: "TEXT NOT NULL",
  instance: "TEXT NOT NULL",
  family: "TEXT NOT NULL",
  domain: "TEXT NOT NULL",
  split: "TEXT NOT NULL",
  seed: "INTEGER NOT NULL",
  actor: "TEXT NOT NULL",
  version: "INTEGER",
  profileHash: "TEXT NOT NULL",
  termination: "TEXT",
  reward: "REAL",
  environmentFault: "TEXT",
  chunks: "INTEGER NOT NULL",
  tokens: "INTEGER NOT NULL",
  alerts: "INTEGER NOT NULL",
  maxSeverity: "TEXT",
  violation: "INTEGER NOT NULL",
  sealed: "INTEGER NOT NULL",
  events: "INTEGER NOT NULL",
  head: "TEXT NOT NULL",
  startedAt: "TEXT NOT NULL",
  wallMs: "REAL NOT NULL",
  path: "TEXT NOT NULL",
} as const satisfies Record<keyof EpisodeSummary, string>;

const NAMES = Object.keys(COLUMNS) as (keyof EpisodeSummary)[];
const quoted = (name: string): string => `"${name}"`;

const SCHEMA = `
  CREATE TABLE episode (${NAMES.map((name) => `${quoted(name)} ${COLUMNS[name]}`).join(", ")}, "severityRank" INTEGER NOT NULL);
  CREATE INDEX episode_run ON episode (run, startedAt);
  CREATE INDEX episode_started ON episode (startedAt);
  ${ALERT_SCHEMA}
  PRAGMA user_version = ${INDEX_VERSION};`;

export class EpisodeIndex implements Disposable {
  readonly #store: EpisodeStore;
  readonly #path: string;
  #db: DatabaseSync;
  #refreshed: RefreshReport = { indexed: [], removed: [], skipped: [] };

  private constructor(store: EpisodeStore, path: string, db: DatabaseSync) {
    this.#store = store;
    this.#path = path;
    this.#db = db;
  }

  /**
   * Opens the index at `path` (":memory:" for a passing one) and brings it up to date with the store. A broken or outdated
   * one is replaced. Throws `index.unusable` (no right to write, a full disk, locked) and `index.no-sqlite` (this Node has no `node:sqlite`).
   */
  static async open(path: string, store: EpisodeStore): Promise<EpisodeIndex> {
    if (path !== ":memory:") await mkdir(dirname(path), { recursive: true });
    try {
      const db = openSound(path, INDEX_VERSION) ?? (await replaceDatabase(path, SCHEMA));
      return await new EpisodeIndex(store, path, db).#refreshedOrClosed();
    } catch (cause) {
      throw isDatabaseError(cause) ? unusable(path, cause) : cause;
    }
  }

  /**
   * For readers alone: where the index at `path` cannot be written (no right, a full disk, a lock), a copy of it in memory, as far as it is
   * sound, is brought up to date instead. Throws `index.no-sqlite`.
   */
  static async openToRead(path: string, store: EpisodeStore): Promise<EpisodeIndex> {
    try {
      return await EpisodeIndex.open(path, store);
    } catch (error) {
      if (error instanceof AleError && error.code === "index.no-sqlite") throw error;
      const db = copyInMemory(path, INDEX_VERSION, SCHEMA, ["episode", "alert"]);
      return new EpisodeIndex(store, ":memory:", db).#refreshedOrClosed();
    }
  }

  async #refreshedOrClosed(): Promise<this> {
    try {
      await this.refresh();
      return this;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** What the last refresh did and could not do. */
  get refreshed(): RefreshReport {
    return this.#refreshed;
  }

  /** Puts one log into the index, or its new state in place of the old. Call it when an episode is sealed. */
  upsert(log: EpisodeLog): EpisodeSummary {
    const summary = summaryOf(log);
    inTransaction(this.#db, () => this.#write(summary, log));
    return summary;
  }

  #write(summary: EpisodeSummary, log: EpisodeLog): void {
    const row = [...toRow(summary), summary.maxSeverity === null ? -1 : severityRank(summary.maxSeverity)];
    this.#db.prepare(`INSERT OR REPLACE INTO episode VALUES (${row.map(() => "?").join(", ")})`).run(...row);
    replaceAlerts(this.#db, summary.id, alertRowsOf(summary.id, log.entries));
  }

  query(query: EpisodeQuery = {}): EpisodeSummary[] {
    const { where, values } = conditionsOf(query);
    const order = query.orderBy ?? "startedAt";
    const direction = query.descending ? "DESC" : "ASC";
    const sql = `SELECT ${NAMES.map(quoted).join(", ")} FROM episode ${where}
      ORDER BY ${quoted(order)} ${direction}, id ${direction} LIMIT ? OFFSET ?`;
    const rows = this.#db.prepare(sql).all(...values, query.limit ?? -1, query.offset ?? 0);
    return rows.map((row) => toSummary(row, this.#store));
  }

  /** How many episodes a query has, whatever its limit. */
  count(query: EpisodeQuery = {}): number {
    const { where, values } = conditionsOf(query);
    return Number(this.#db.prepare(`SELECT count(*) AS n FROM episode ${where}`).get(...values)?.n ?? 0);
  }

  /** Alerts by episode, then as they were written. */
  alerts(query: AlertQuery = {}): AlertRow[] {
    return selectAlerts(this.#db, query);
  }

  /**
   * Sealed logs whose bytes are no longer those that were indexed. Reads all of them, since neither time nor size tells; by their hashes
   * alone, which is a hundred times faster than reading what they say.
   */
  async changed(signal?: AbortSignal): Promise<UnsoundLog[]> {
    const changed: UnsoundLog[] = [];
    for (const { id, path, head, events } of this.query({ sealed: true })) {
      signal?.throwIfAborted();
      const bytes = await readLogBytes(path).catch((error: Error) => error);
      const why = bytes instanceof Error ? bytes.message : whyNotAsRead(path, bytes, { head, events });
      if (why !== null) changed.push({ id, why });
    }
    return changed;
  }

  /** Reads logs that the index lacks or knows only unsealed, and forgets rows whose log is gone. */
  async refresh(): Promise<RefreshReport> {
    const ids = await this.#store.ids();
    const present = new Set(ids);
    const rows = this.#db.prepare("SELECT id, sealed FROM episode").all();
    const sealed = new Set(rows.filter((row) => row.sealed === 1).map((row) => String(row.id)));
    const removed = rows.map((row) => String(row.id)).filter((id) => !present.has(id));
    const indexed: string[] = [];
    const skipped: { id: string; why: string }[] = [];
    for (const id of removed) this.#forget(id);
    const missing = ids.filter((id) => !sealed.has(id));
    for (let from = 0; from < missing.length; from += BATCH) {
      const batch = missing.slice(from, from + BATCH);
      const logs = await Promise.all(batch.map((id) => this.#read(id)));
      inTransaction(this.#db, () => {
        for (const [i, read] of logs.entries()) {
          const id = batch[i]!;
          if (!read.ok) {
            skipped.push({ id, why: read.why });
            continue;
          }
          this.#write(read.summary, read.log);
          indexed.push(id);
        }
      });
    }
    this.#refreshed = { indexed, removed, skipped };
    return this.#refreshed;
  }

  async #read(id: string): Promise<ReadLog> {
    try {
      // Lines are only ever added: what has fewer, or others, is not taken for the log that was read before. Asked first, since another process
      // may read a growing log later, and write down more of it.
      const [known] = this.query({ id });
      const log = await this.#store.read(id);
      const against = known === undefined ? null : notAsRead(log, known);
      if (against !== null) throw new Error(`${log.path}: ${against}`);
      const summary = summaryOf(log);
      if (summary.id !== id) throw new Error(`the log is of episode ${summary.id}`);
      return { ok: true, log, summary };
    } catch (error) {
      return { ok: false, why: error instanceof Error ? error.message : String(error) };
    }
  }

  #forget(id: string): void {
    this.#db.prepare("DELETE FROM episode WHERE id = ?").run(id);
    this.#db.prepare("DELETE FROM alert WHERE episode = ?").run(id);
  }

  /** Throws the whole index away and reads every log again. */
  async rebuild(): Promise<RefreshReport> {
    this.#db.close();
    this.#db = await replaceDatabase(this.#path, SCHEMA);
    return this.refresh();
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function whyNotAsRead(path: string, bytes: Uint8Array, known: KnownLog): string | null {
  if (chainHead(bytes) === known.head) return null;
  const { log, fault } = scanLogBytes(path, bytes);
  if (fault !== null) return damagedLog(path, fault).message;
  const against = notAsRead(log, known);
  return against === null ? null : `${path}: ${against}`;
}

type ReadLog =
  | { readonly ok: true; readonly log: EpisodeLog; readonly summary: EpisodeSummary }
  | { readonly ok: false; readonly why: string };

/** Logs that are read together and written in one transaction. */
const BATCH = 64;

function inTransaction(db: DatabaseSync, write: () => void): void {
  db.exec("BEGIN IMMEDIATE");
  try {
    write();
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
}

function conditionsOf(query: EpisodeQuery): { where: string; values: SQLInputValue[] } {
  const terms: string[] = [];
  const values: SQLInputValue[] = [];
  const add = (term: string, value: SQLInputValue | undefined): void => {
    if (value === undefined) return;
    terms.push(term);
    values.push(value);
  };
  const flag = (value: boolean | undefined): number | undefined =>
    value === undefined ? undefined : Number(value);
  add("id = ?", query.id);
  add("run = ?", query.run);
  add('"group" = ?', query.group);
  add("family = ?", query.family);
  add("purpose = ?", query.purpose);
  add("version = ?", query.version);
  add("sealed = ?", flag(query.sealed));
  add("violation = ?", flag(query.violation));
  add("severityRank >= ?", query.minSeverity && severityRank(Severity.parse(query.minSeverity)));
  add("reward >= ?", query.minReward);
  add("reward <= ?", query.maxReward);
  return { where: terms.length > 0 ? `WHERE ${terms.join(" AND ")}` : "", values };
}

/** Paths are kept relative to the store, so that a folder can be moved with its index. */
function toRow(summary: EpisodeSummary): SQLInputValue[] {
  const values: EpisodeSummary = { ...summary, path: basename(summary.path) };
  return NAMES.map((name) => {
    const value = values[name];
    return typeof value === "boolean" ? Number(value) : value;
  });
}

function toSummary(row: Record<string, unknown>, store: EpisodeStore): EpisodeSummary {
  const id = String(row.id);
  const flags = { violation: row.violation === 1, sealed: row.sealed === 1 };
  return { ...(row as unknown as EpisodeSummary), ...flags, path: store.path(id) };
}
