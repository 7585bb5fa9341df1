import { rm } from "node:fs/promises";
import type { DatabaseSync } from "node:sqlite";
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
    if (!BROKEN.has((cause as { errcode?: unknown }).errcode)) throw unusable(path, cause);
  }
  db.close();
  return null;
}

/** A new database in place of whatever was there. */
export async function replaceDatabase(path: string, schema: string): Promise<DatabaseSync> {
  if (path !== ":memory:")
    for (const suffix of ["", "-wal", "-shm", "-journal"]) await rm(path + suffix, { force: true });
  const db = openDatabase(path);
  configure(db);
  db.exec("PRAGMA journal_mode = WAL;");
  db.exec(schema);
  return db;
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

const unusable = (path: string, cause: unknown): AleError =>
  new AleError("index.unusable", `the index ${path} cannot be opened: ${String(cause)}`, {
    next: "check who may write there and whether another process holds it; the index itself may be deleted at any time",
    cause,
  });

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
