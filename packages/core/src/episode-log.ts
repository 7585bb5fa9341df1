import { constants } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { sha256 } from "./canonical-json.ts";
import { damagedLog, type EpisodeLog, scanEpisodeLog } from "./episode-reader.ts";
import type { Event } from "./event.ts";
import { CHAIN_START, type ChainState, encodeLine } from "./log-line.ts";
import { type Clock, systemClock } from "./ports.ts";
import { AleError } from "./result.ts";

/**
 * Writing an episode log. One writer owns one file from creation (or reopening after a crash) to close; lines are hashed and
 * ordered when they are appended, written in batches behind, and made durable when the log is sealed. Nothing is ever
 * rewritten, except that reopening cuts off a torn last line, which it records.
 */
export interface LogOptions {
  readonly clock?: Clock;
  /** When to force bytes to disk: at the seal only (default), or after every batch of appends too. */
  readonly sync?: "seal" | "append";
}

/** The instants that a reopened log continues from. */
interface Origin {
  readonly chain: ChainState;
  readonly begun: boolean;
  readonly t: number;
}

export class EpisodeLogWriter implements AsyncDisposable {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #clock: Clock;
  readonly #sync: "seal" | "append";
  #originMs: number;
  #chain: ChainState;
  #begun: boolean;
  #lastT: number;
  #pending: string[] = [];
  #draining: Promise<void> | null = null;
  #failure: AleError | null = null;
  #closed = false;

  private constructor(path: string, file: FileHandle, options: LogOptions, origin: Origin) {
    this.path = path;
    this.#file = file;
    this.#clock = options.clock ?? systemClock;
    this.#sync = options.sync ?? "seal";
    this.#chain = origin.chain;
    this.#begun = origin.begun;
    this.#lastT = origin.t;
    this.#originMs = this.#clock.monotonicMs() - origin.t;
  }

  /** A new log. Makes the folder; fails with `log.exists` when the file is already there. */
  static async create(path: string, options: LogOptions = {}): Promise<EpisodeLogWriter> {
    await mkdir(dirname(path), { recursive: true });
    const file = await openForAppend(path, constants.O_CREAT | constants.O_EXCL);
    return new EpisodeLogWriter(path, file, options, { chain: CHAIN_START, begun: false, t: 0 });
  }

  /** Continues a checked log; used by `openEpisodeLog`. */
  static async resume(path: string, options: LogOptions, origin: Origin): Promise<EpisodeLogWriter> {
    return new EpisodeLogWriter(path, await openForAppend(path, 0), options, origin);
  }

  /** Hash of the last appended line; after the seal, the identity of the episode. */
  get head(): string {
    return this.#chain.prev;
  }

  /** Lines appended so far. */
  get length(): number {
    return this.#chain.seq;
  }

  get sealed(): boolean {
    return this.#chain.sealed;
  }

  /**
   * Adds one event and returns at once; `flush` waits for the file. The first event is `episode.begin`; the seal is added by
   * `seal` alone. Throws `log.sealed` or `log.closed` when the log takes no more, `log.write` when an earlier write failed, and a
   * TypeError when the event has no JSON form (then nothing was added).
   */
  append(event: Event): void {
    if (event.type === "episode.seal") throw new AleError("log.misuse", "a log is sealed with seal()");
    if (event.type === "episode.begin" ? this.#begun : !this.#begun && event.type !== "log.repair")
      throw new AleError("log.misuse", `${this.path}: a log has one episode.begin, before anything else`);
    this.#add(event);
    if (event.type === "episode.begin") this.#begun = true;
  }

  #add(event: Event): void {
    if (this.#failure) throw this.#failure;
    if (this.#closed) throw new AleError("log.closed", `${this.path} is closed`);
    if (this.#chain.sealed) throw new AleError("log.sealed", `${this.path} is sealed: nothing can be added`);
    const nowMs = this.#clock.monotonicMs();
    if (this.#chain.seq === 0) this.#originMs = nowMs;
    const t = Math.max(this.#lastT, Math.round((nowMs - this.#originMs) * 1000) / 1000);
    const { text, hash } = encodeLine(event, new Date(this.#clock.nowMs()).toISOString(), t, this.#chain);
    this.#chain = { seq: this.#chain.seq + 1, prev: hash, sealed: event.type === "episode.seal" };
    this.#lastT = t;
    this.#pending.push(text);
    this.#draining ??= this.#drain();
  }

  /** Writes what is pending, batch after batch, until nothing is. A failure is kept and told by the next append or flush. */
  async #drain(): Promise<void> {
    try {
      await Promise.resolve(); // lets a burst of appends become one write
      while (this.#pending.length > 0) {
        const batch = this.#pending.join("");
        this.#pending = [];
        await this.#file.appendFile(batch);
        if (this.#sync === "append") await this.#file.datasync();
      }
    } catch (cause) {
      this.#failure = new AleError("log.write", `${this.path} cannot be written: ${String(cause)}`, {
        next: "make room on the disk or choose another folder, then run the episode again",
        cause,
      });
    } finally {
      this.#draining = null;
    }
  }

  /** Resolves when every event appended before the call is in the file (and on disk, with `sync: "append"`). */
  async flush(): Promise<void> {
    while (this.#draining) await this.#draining;
    if (this.#failure) throw this.#failure;
  }

  /** Ends the log: adds the seal, forces everything to disk, and returns the hash that identifies the episode. */
  async seal(): Promise<string> {
    if (!this.#begun) throw new AleError("log.misuse", `${this.path}: an empty log cannot be sealed`);
    this.#add({ type: "episode.seal", events: this.#chain.seq });
    await this.flush();
    await this.#file.sync();
    await syncFolder(dirname(this.path));
    return this.head;
  }

  /** Writes what is pending and releases the file. Safe to call twice; does not seal. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.flush();
    } finally {
      await this.#file.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

export interface LogRepair {
  readonly droppedBytes: number;
  readonly droppedSha256: string;
}

export interface OpenedLog {
  readonly writer: EpisodeLogWriter;
  /** What the log held before this call, without the torn line and without the record of the repair. */
  readonly log: EpisodeLog;
  readonly repair: LogRepair | null;
}

/**
 * Opens an unsealed log to go on writing, as after a crash. A torn last line (bytes without a newline) is cut off and recorded as
 * `log.repair`. Fails with `log.sealed` on a finished log and with `log.damaged` on any other damage, which is never repaired.
 * Time goes on from the last line by the wall clock. The caller makes sure that no other writer is alive.
 */
export async function openEpisodeLog(path: string, options: LogOptions = {}): Promise<OpenedLog> {
  const { log, fault, wholeBytes, torn } = await scanEpisodeLog(path);
  if (fault) throw damagedLog(path, fault);
  if (log.sealed) throw new AleError("log.sealed", `${path} is sealed: nothing can be added`);
  const last = log.entries.at(-1);
  const clock = options.clock ?? systemClock;
  const pauseMs = last ? Math.max(0, clock.nowMs() - Date.parse(last.at)) : 0;
  if (torn.length > 0) await truncateTo(path, wholeBytes);
  const writer = await EpisodeLogWriter.resume(path, options, {
    chain: { seq: log.entries.length, prev: log.head, sealed: false },
    begun: log.events.some((event) => event.type === "episode.begin"),
    t: (last?.t ?? 0) + pauseMs,
  });
  if (torn.length === 0) return { writer, log, repair: null };
  const repair = { droppedBytes: torn.length, droppedSha256: sha256(torn) };
  writer.append({ type: "log.repair", ...repair });
  await writer.flush();
  return { writer, log, repair };
}

async function openForAppend(path: string, flags: number): Promise<FileHandle> {
  try {
    return await open(path, constants.O_WRONLY | constants.O_APPEND | flags, 0o644);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST")
      throw new AleError("log.exists", `${path} already exists`, {
        next: "use a new episode id, or reopen the log to continue it",
        cause,
      });
    throw new AleError("log.write", `${path} cannot be opened for writing: ${String(cause)}`, { cause });
  }
}

async function truncateTo(path: string, bytes: number): Promise<void> {
  const file = await open(path, "r+");
  try {
    await file.truncate(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A new file is only durable when the folder that names it is. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
