import { AleError } from "@ale/core";

/**
 * Streams between PID 1 and the driver, each with a window: neither end holds more than that of what the other has not taken yet. A
 * reader or a program that is slow or absent stops its writer, and fills nobody's memory.
 */

/** Bytes that may be on their way, or lie unread, in each direction of each stream. */
export const WINDOW_BYTES = 256 * 1024;
/** Largest part of an input that travels in one frame. */
const PART_BYTES = 64 * 1024;

/** Output of a program on its way to its reader. One reader; leaving the loop early drops the rest. */
export class Inflow implements AsyncIterable<Uint8Array> {
  readonly #chunks: Uint8Array[] = [];
  readonly #taken: (bytes: number) => void;
  readonly #drop: () => void;
  #wake: (() => void) | undefined;
  #ended = false;
  #dropped = false;
  #unread = 0;

  /** `taken` hears of every byte that has found its reader, `drop` that none will be wanted any more. */
  constructor(taken: (bytes: number) => void, drop: () => void) {
    this.#taken = taken;
    this.#drop = drop;
  }

  /** Throws a RangeError where more comes than was asked for. */
  push(chunk: Uint8Array): void {
    if (this.#dropped || this.#ended) return;
    this.#unread += chunk.length;
    if (this.#unread > WINDOW_BYTES) throw new RangeError("more output than there is room for");
    this.#chunks.push(chunk);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Forgets what is here and asks for no more. */
  drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.#chunks.length = 0;
    if (!this.#ended) this.#drop();
    this.end();
  }

  /** The next bytes, or undefined at the end. */
  async read(): Promise<Uint8Array | undefined> {
    while (this.#chunks.length === 0 && !this.#ended)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    const chunk = this.#chunks.shift();
    this.#unread -= chunk?.length ?? 0;
    if (chunk !== undefined && !this.#ended) this.#taken(chunk.length);
    return chunk;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return {
      next: async () => {
        const value = await this.read();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
      return: async () => {
        this.drop();
        return { done: true, value: undefined };
      },
    };
  }
}

interface Portion {
  readonly bytes: Uint8Array;
  sent: number;
  taken: number;
  readonly resolve: () => void;
  readonly reject: (reason: AleError) => void;
}

/** Input on its way to a program. */
export class Outflow {
  readonly #send: (bytes: Uint8Array, last: boolean) => void;
  /** In order; those before `#unsent` are wholly sent, not wholly taken. */
  readonly #portions: Portion[] = [];
  #room = WINDOW_BYTES;
  #closing = false;
  #closeSent = false;
  #deaf = false;

  constructor(send: (bytes: Uint8Array, last: boolean) => void) {
    this.#send = send;
  }

  /** Resolves when the reader has taken all of it. Rejects with an AleError `stdin-closed`. */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#deaf || this.#closing) return Promise.reject(stdinClosed());
    if (bytes.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#portions.push({ bytes, sent: 0, taken: 0, resolve, reject });
      this.#pump();
    });
  }

  /** After what was written before. */
  close(): void {
    this.#closing = true;
    this.#pump();
  }

  taken(count: number): void {
    let left = count;
    this.#room += count;
    while (left > 0 && this.#portions[0] !== undefined) {
      const portion = this.#portions[0];
      const part = Math.min(left, portion.bytes.length - portion.taken);
      portion.taken += part;
      left -= part;
      if (portion.taken < portion.bytes.length) break;
      this.#portions.shift();
      portion.resolve();
    }
    this.#pump();
  }

  /** Nobody reads any more. */
  deaf(): void {
    this.#deaf = true;
    for (const portion of this.#portions.splice(0)) portion.reject(stdinClosed());
  }

  #pump(): void {
    if (this.#deaf || this.#closeSent) return;
    for (const portion of this.#portions) {
      while (portion.sent < portion.bytes.length && this.#room > 0) {
        const size = Math.min(PART_BYTES, this.#room, portion.bytes.length - portion.sent);
        this.#send(portion.bytes.subarray(portion.sent, portion.sent + size), false);
        portion.sent += size;
        this.#room -= size;
      }
      if (portion.sent < portion.bytes.length) return;
    }
    if (!this.#closing) return;
    this.#closeSent = true;
    this.#send(new Uint8Array(0), true);
  }
}

function stdinClosed(): AleError {
  return new AleError("stdin-closed", "the program no longer reads its input", {
    next: "start it with `stdin: true`, and write before it ends and before closeStdin",
  });
}
