import type { Socket } from "node:net";
import type { RawData, WebSocket } from "ws";

/**
 * One end of a WebSocket that keeps the pace of the slower side: what is not read stays with its sender, what cannot be sent holds its
 * producer back. Make it as soon as there is a socket: messages before that are lost.
 */

export interface Message {
  readonly data: Buffer;
  readonly binary: boolean;
}

/** Bytes that may wait in this process for the network, and messages that may wait for their reader. */
const WINDOW_BYTES = 2 ** 20;
const WINDOW_MESSAGES = 64;
/** How long the other side has to say goodbye too. */
const GOODBYE_MS = 2_000;

export class Peer implements AsyncIterable<Message> {
  readonly #socket: WebSocket;
  readonly #queue: Message[] = [];
  #wake: (() => void) | undefined;
  readonly #closed = new AbortController();

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data: RawData, binary: boolean) => this.#take(data, binary));
    socket.on("close", () => this.#end());
    socket.on("error", () => this.#end());
    // A peer that reads slowly answers no ping; the kernel still tells one that is slow from one that is gone.
    (socket as unknown as { _socket?: Socket })._socket?.setKeepAlive(true, 30_000);
  }

  /** Aborted when the connection has ended. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Resolves when more may be sent. After the end, what is sent goes nowhere. */
  async send(data: string | Uint8Array): Promise<void> {
    if (this.closed.aborted) return;
    if (this.#socket.bufferedAmount < WINDOW_BYTES) {
      this.#socket.send(data);
      return;
    }
    await new Promise<void>((resolve) => {
      this.closed.addEventListener("abort", () => resolve(), { once: true });
      this.#socket.send(data, () => resolve());
    });
  }

  close(code = 1000, reason = ""): void {
    this.#socket.close(code, reason.slice(0, 120));
    // One that is paused never reads the other side's goodbye.
    this.#socket.resume();
    const timer = setTimeout(() => this.#socket.terminate(), GOODBYE_MS);
    timer.unref();
    this.closed.addEventListener("abort", () => clearTimeout(timer), { once: true });
  }

  terminate(): void {
    this.#socket.terminate();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message> {
    for (;;) {
      const message = this.#queue.shift();
      if (message !== undefined) {
        if (this.#queue.length < WINDOW_MESSAGES / 2 && this.#socket.isPaused) this.#socket.resume();
        yield message;
      } else if (this.closed.aborted) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  #take(data: RawData, binary: boolean): void {
    this.#queue.push({ data: data as Buffer, binary });
    if (this.#queue.length >= WINDOW_MESSAGES) this.#socket.pause();
    this.#wake?.();
  }

  #end(): void {
    this.#closed.abort();
    this.#wake?.();
  }
}
