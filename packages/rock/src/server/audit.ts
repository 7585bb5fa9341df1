import { createHash } from "node:crypto";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

/**
 * Who asked for what, when, and how it ended: one line of JSON a call, appended to one file a day. Never what was in a file, a body or an
 * environment; of a command only its digest, so that it can be recognised but not read.
 */

export interface AuditEntry {
  readonly time: string;
  readonly tenant: string | null;
  readonly token: string | null;
  readonly remote: string;
  readonly method: string;
  /** The route's pattern, not the path: paths can hold names of files. */
  readonly route: string;
  readonly sandbox: string | null;
  readonly status: number;
  readonly ms: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** SHA-256 of the arguments, joined by NUL. */
  readonly argv: string | null;
}

export interface Audit {
  /** The last entry could be written. While false, nothing that changes anything is served but what makes room. */
  readonly healthy: boolean;
  /** While it cannot be written: an entry of something that was done can be kept until it can. */
  readonly canWait: boolean;
  write(entry: AuditEntry): void;
  /** Tries to write again, so that a full disk that has been emptied is noticed. */
  probe(): boolean;
  close(): void;
}

export const argvDigest = (argv: readonly string[]): string =>
  createHash("sha256").update(argv.join("\0")).digest("hex");

/** Entries in memory, of calls that changed nothing; those of the others may be as many again. */
const MOST_WAITING = 10_000;

const changed = ({ method, status }: AuditEntry): boolean =>
  method !== "GET" && method !== "HEAD" && status < 400;

export class AuditLog implements Audit {
  readonly #directory: string;
  #day = "";
  #fd: number | undefined;
  #healthy = true;
  /** Entries that could not be written yet, in order. */
  #backlog: string[] = [];

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  get healthy(): boolean {
    return this.#healthy;
  }

  get canWait(): boolean {
    return this.#backlog.length < 2 * MOST_WAITING;
  }

  write(entry: AuditEntry): void {
    // Reads and refusals go on while the disk is full: they must neither fill the memory nor push out what was done.
    if (this.#backlog.length < MOST_WAITING || changed(entry))
      this.#backlog.push(`${JSON.stringify(entry)}\n`);
    this.#flush(entry.time.slice(0, 10));
  }

  probe(): boolean {
    this.#flush(new Date().toISOString().slice(0, 10), true);
    return this.#healthy;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #flush(day: string, sync = false): void {
    try {
      if (this.#fd === undefined || day !== this.#day) {
        this.close();
        this.#fd = openSync(join(this.#directory, `${day}.jsonl`), "a+", 0o600);
        this.#day = day;
        endTornLine(this.#fd);
      }
      while (this.#backlog.length > 0) {
        appendWhole(this.#fd, Buffer.from(this.#backlog[0]!));
        this.#backlog.shift();
      }
      if (sync) fsyncSync(this.#fd);
      this.#healthy = true;
    } catch {
      this.#healthy = false;
    }
  }
}

/** All of it or nothing: of a line that the disk has no room for, no part stays. Throws as writing does. */
function appendWhole(fd: number, line: Buffer): void {
  const { size } = fstatSync(fd);
  try {
    for (let written = 0; written < line.length; ) written += writeSync(fd, line, written);
  } catch (error) {
    ftruncateSync(fd, size);
    throw error;
  }
}

/** What a crash cut short stays as it is, on a line of its own. */
function endTornLine(fd: number): void {
  const { size } = fstatSync(fd);
  const last = Buffer.alloc(1);
  if (size > 0 && readSync(fd, last, 0, 1, size - 1) === 1 && last.toString() !== "\n")
    appendWhole(fd, Buffer.from("\n"));
}
