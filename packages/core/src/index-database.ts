import { statfsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { AleError } from "./result.ts";

/** Opening the SQLite file of an index. It is a copy of what logs say: a broken or outdated one is deleted and made again. */

/** SQLite's result codes for "this is not a sound database". */
const BROKEN: ReadonlySet<unknown> = new Set([11 /* SQLITE_CORRUPT */, 26 /* SQLITE_NOTADB */]);

/** The database if it is there, whole and of this version; null otherwise. */
export function openSound(path: string, version: number): DatabaseSync | null {
  const db = openDatabase(path);
  try {
    configure(db);
    const isWhole = db.prepare("PRAGMA quick_check").get()?.quick_check === "ok";
    if (isWhole && db.prepare("PRAGMA user_version").get()?.user_version === version) return db;
  } catch (cause) {
    // Anything else, such as a lock held by another process, says nothing about the index: it must not be deleted for that.
    if (!BROKEN.has((cause as { errcode?: unknown }).errcode)) {
      db.close();
      throw unusable(path, cause);
    }
  }
  db.close();
  return null;
}

/** A new database in place of whatever was there. */
export async function replaceDatabase(path: string, schema: string): Promise<DatabaseSync> {
  if (path !== ":memory:")
    for (const suffix of ["", "-wal", "-shm", "-journal"]) await rm(path + suffix, { force: true });
  const db = openDatabase(path);
  try {
    configure(db);
    db.exec("PRAGMA journal_mode = WAL;");
    db.exec(schema);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Losing the last rows in a power cut costs nothing, since `refresh` reads those logs again; hence `NORMAL`. */
const configure = (db: DatabaseSync): void =>
  db.exec("PRAGMA busy_timeout = 2000; PRAGMA synchronous = NORMAL;");

function openDatabase(path: string): DatabaseSync {
  const sqlite = loadSqlite();
  try {
    return new sqlite.DatabaseSync(path);
  } catch (cause) {
    throw unusable(path, cause);
  }
}

/**
 * A new database in memory, with the rows of the tables at `path` where that is a sound index of this version: nothing is written there, not
 * even what SQLite keeps beside an open file.
 */
export function copyInMemory(
  path: string,
  version: number,
  schema: string,
  tables: readonly string[],
): DatabaseSync {
  const empty = (): DatabaseSync => {
    const db = openDatabase(":memory:");
    db.exec(schema);
    return db;
  };
  const db = empty();
  try {
    db.prepare("ATTACH ? AS disk").run(`${pathToFileURL(path).href}?immutable=1`);
    const isWhole = db.prepare("PRAGMA disk.quick_check").get()?.quick_check === "ok";
    if (isWhole && db.prepare("PRAGMA disk.user_version").get()?.user_version === version)
      for (const table of tables) db.exec(`INSERT INTO main.${table} SELECT * FROM disk.${table}`);
    db.exec("DETACH disk");
    return db;
  } catch {
    // It is not there, may not be read, or is being written: the logs say all of it.
    db.close();
    return empty();
  }
}

/** SQLite's "disk I/O error" and "database or disk is full", without the bits that say where it happened. */
const DISK_ERRORS: ReadonlySet<number> = new Set([10, 13]);

/** What SQLite threw. */
export const isDatabaseError = (error: unknown): boolean =>
  error instanceof Error && typeof (error as { errcode?: unknown }).errcode === "number";

export function unusable(path: string, cause: unknown): AleError {
  const { errcode } = cause as { errcode?: unknown };
  const isFull = typeof errcode === "number" && DISK_ERRORS.has(errcode & 0xff) && isFullDisk(dirname(path));
  return isFull
    ? new AleError(
        "index.unusable",
        `the index ${path} cannot be written: no space left on the disk (ENOSPC)`,
        {
          next: "make room on the disk",
          cause,
        },
      )
    : new AleError("index.unusable", `the index ${path} cannot be opened: ${String(cause)}`, {
        next: "check who may write there, and whether another process holds it",
        cause,
      });
}

/** Less than SQLite needs beside the file. */
function isFullDisk(folder: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize < 65_536;
  } catch {
    return false;
  }
}

/** Loaded on first use, so that everything else of this package runs on a Node without it, and without its experimental warning. */
function loadSqlite(): typeof import("node:sqlite") {
  const emitWarning = process.emitWarning;
  process.emitWarning = () => undefined;
  try {
    const sqlite = process.getBuiltinModule?.("node:sqlite");
    if (sqlite) return sqlite;
  } finally {
    process.emitWarning = emitWarning;
  }
  throw new AleError("index.no-sqlite", `Node ${process.version} has no SQLite`, {
    next: "use Node 22.13 or newer; the one in node_modules/.bin will do",
  });
}
