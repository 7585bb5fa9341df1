import { randomBytes } from "node:crypto";
import type { Telemetry } from "@ale/core";
import { EventQueue, type ServerEvent } from "./streams.ts";

/**
 * What is seen of one sandbox, numbered, and kept for a while: a reader whose connection broke goes on where it was, or is told how many records it
 * missed. Collects while it has readers, and a little longer, for those that come back.
 */

export interface FeedOptions {
  readonly listen: (tell: (record: Telemetry) => void) => Disposable;
  /** Nobody has read for long enough: it is over. */
  readonly onUnused: () => void;
  /** Records for who comes back. */
  readonly kept?: number;
  readonly lingerMs?: number;
}

const KEPT = 5_000;
const LINGER_MS = 30_000;
/** Events that a slow reader may leave lying; beyond them they are counted, not kept. */
const MOST_WAITING = 20_000;

export class TelemetryFeed {
  readonly #options: FeedOptions;
  /** A feed that was begun anew knows nothing of the numbers of the last one. */
  readonly #epoch = randomBytes(6).toString("hex");
  readonly #readers = new Set<FeedReader>();
  readonly #listening: Disposable;
  readonly #most: number;
  /** The last of them has the number `#last`. */
  #kept: Telemetry[] = [];
  #last = 0;
  #linger: NodeJS.Timeout | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#most = options.kept ?? KEPT;
    this.#listening = options.listen((record) => this.#tell(record));
  }

  /** `after`: the cursor of the last event that the reader has; without it, it begins now. */
  join(after?: string): FeedReader {
    clearTimeout(this.#linger);
    const reader = new FeedReader(() => this.#leave(reader));
    const from = after === undefined ? this.#last : this.#numberOf(after);
    reader.push({ event: "listening", data: { cursor: this.#cursor(from ?? this.#last) } });
    const first = this.#last - this.#kept.length + 1;
    const missed = from === undefined ? null : Math.max(0, first - 1 - from);
    if (missed !== 0) reader.push({ event: "missed", data: { records: missed } });
    if (from !== undefined)
      for (const [index, record] of this.#kept.entries())
        if (first + index > from) reader.tell(record, this.#cursor(first + index));
    this.#readers.add(reader);
    return reader;
  }

  /** The sandbox has ended: the last event of every reader. */
  end(data: Readonly<Record<string, unknown>>): void {
    for (const reader of [...this.#readers]) {
      reader.push({ event: "end", data });
      reader.end();
    }
    this.close();
  }

  drained(token: string): void {
    for (const reader of this.#readers) reader.push({ event: "drained", data: { token } });
  }

  /** Nothing is told any more. */
  close(): void {
    clearTimeout(this.#linger);
    for (const reader of [...this.#readers]) reader.end();
    clearTimeout(this.#linger);
    this.#listening[Symbol.dispose]();
    this.#options.onUnused();
  }

  #tell(record: Telemetry): void {
    this.#last++;
    this.#kept.push(record);
    // Now and then, so that it costs nothing a record.
    if (this.#kept.length >= 2 * this.#most) this.#kept = this.#kept.slice(-this.#most);
    for (const reader of this.#readers) reader.tell(record, this.#cursor(this.#last));
  }

  #cursor(number: number): string {
    return `${this.#epoch}-${number}`;
  }

  /** Undefined where it is none of this feed's. */
  #numberOf(cursor: string): number | undefined {
    const [epoch, number] = cursor.split("-");
    const at = Number(number);
    return epoch === this.#epoch && Number.isSafeInteger(at) && at >= 0 && at <= this.#last ? at : undefined;
  }

  #leave(reader: FeedReader): void {
    this.#readers.delete(reader);
    if (this.#readers.size > 0) return;
    this.#linger = setTimeout(() => this.close(), this.#options.lingerMs ?? LINGER_MS).unref();
  }
}

/** One reader's events. */
export class FeedReader {
  readonly #queue = new EventQueue();
  readonly #leave: () => void;
  #leftOut = 0;
  #over = false;

  constructor(leave: () => void) {
    this.#leave = leave;
  }

  push(event: ServerEvent): void {
    void this.#queue.push(event);
  }

  tell(record: Telemetry, cursor: string): void {
    if (this.#queue.waiting >= MOST_WAITING) {
      this.#leftOut += 1 + (record.suppressed ?? 0);
      return;
    }
    const suppressed = this.#leftOut + (record.suppressed ?? 0);
    this.#leftOut = 0;
    const data = suppressed === 0 ? record : { ...record, suppressed };
    this.push({ event: "record", data, id: cursor });
  }

  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#queue.end();
    this.#leave();
  }

  async *events(): AsyncGenerator<ServerEvent> {
    try {
      yield* this.#queue;
    } finally {
      this.end();
    }
  }
}
