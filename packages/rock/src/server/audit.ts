import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, writeSync } from "node:fs";
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
  /** The last entry could be written. While false, nothing that changes anything is served. */
  readonly healthy: boolean;
  write(entry: AuditEntry): void;
  /** Tries to write again, so that a full disk that has been emptied is noticed. */
  probe(): boolean;
  close(): void;
}

export const argvDigest = (argv: readonly string[]): string =>
  createHash("sha256").update(argv.join("\0")).digest("hex");

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

  write(entry: AuditEntry): void {
    this.#backlog.push(`${JSON.stringify(entry)}\n`);
    // Reads go on while the disk is full; what they leave here must not fill the memory.
    if (this.#backlog.length > 10_000) this.#backlog.splice(0, this.#backlog.length - 10_000);
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
        this.#fd = openSync(join(this.#directory, `${day}.jsonl`), "a", 0o600);
        this.#day = day;
      }
      while (this.#backlog.length > 0) {
        const line = Buffer.from(this.#backlog[0]!);
        let written = 0;
        while (written < line.length) written += writeSync(this.#fd, line, written);
        this.#backlog.shift();
      }
      if (sync) fsyncSync(this.#fd);
      this.#healthy = true;
    } catch {
      this.#healthy = false;
    }
  }
}
