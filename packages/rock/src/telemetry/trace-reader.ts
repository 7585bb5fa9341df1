import { closeSync } from "node:fs";
import { Poll, readNow } from "../host/poll.ts";
import { readPage } from "./ring-page.ts";
import { decoderOf, type TraceEvent } from "./trace-events.ts";
import { openPipes } from "./tracefs.ts";

/**
 * Reads an instance's buffers, one a processor, and puts what they hold in order. What came after a reading began waits for the next one, because a
 * buffer that was read before may hold something earlier.
 */

/** More than one page of any kernel. */
const READ_BYTES = 64 * 1024;
/** Longest that an event may take from its time stamp to its place in the buffer. */
const WRITTEN_NS = 200_000;

export interface Reading {
  /** In the order in which they happened. */
  readonly events: readonly TraceEvent[];
  /** Everything that happened before is among the events, now or earlier. */
  readonly until: number;
  /** Events that the kernel had to throw away because nobody read them in time. */
  readonly missed: number;
  /** Some are there that came later. */
  readonly more: boolean;
}

export class TraceReader implements Disposable {
  readonly #pipes: readonly number[];
  readonly #decode: ReturnType<typeof decoderOf>;
  readonly #buffer = Buffer.alloc(READ_BYTES);
  readonly #poll: Poll;
  #waiting: TraceEvent[] = [];

  /** Throws where the kernel's descriptions lack what is needed. */
  constructor(directory: string, formats: readonly string[]) {
    this.#decode = decoderOf(formats);
    this.#pipes = openPipes(directory);
    this.#poll = new Poll(this.#pipes);
  }

  /** Waits, with the whole thread, for something to read. */
  wait(timeoutMs: number): void {
    this.#poll.wait(timeoutMs);
  }

  /** `now`: by the buffer's clock. */
  read(now: number): Reading {
    const until = now - WRITTEN_NS;
    const all = this.#waiting;
    let missed = 0;
    for (const pipe of this.#pipes)
      for (;;) {
        const length = readNow(pipe, this.#buffer);
        if (length === 0) break;
        missed += readPage(this.#buffer.subarray(0, length), (ns, data) => {
          const event = this.#decode(ns, data);
          if (event !== undefined) all.push(event);
        });
      }
    if (all.length === 0) return { events: all, until, missed, more: false };
    all.sort((one, other) => one.ns - other.ns);
    const later = all.findIndex(({ ns }) => ns > until);
    const events = later < 0 ? all : all.slice(0, later);
    this.#waiting = later < 0 ? [] : all.slice(later);
    return { events, until, missed, more: this.#waiting.length > 0 };
  }

  /** What was read and not yet given out. */
  forget(): void {
    this.#waiting = [];
  }

  [Symbol.dispose](): void {
    for (const pipe of this.#pipes) closeSync(pipe);
  }
}
