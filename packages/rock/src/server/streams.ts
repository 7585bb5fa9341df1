import { Readable } from "node:stream";
import { AleError } from "@ale/core";
import type { FastifyReply, FastifyRequest } from "fastify";
import { problemOf } from "../wire/problem.ts";
import { errorOf } from "./thrown.ts";

/** Long bodies in both directions: never whole in memory, ended with the client, the server or a deadline between two bytes. */

/** Aborted when the client has gone before it got its answer, or the server shuts down. */
export function gone(request: FastifyRequest, reply: FastifyReply, closing: AbortSignal): AbortSignal {
  const controller = new AbortController();
  const abort = (): void =>
    controller.abort(new AleError("cancelled", `${request.method} was cancelled: its client has gone`));
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) abort();
  });
  return AbortSignal.any([controller.signal, closing]);
}

const DRAIN_MS = 3_000;

export interface UploadLimits {
  /** Longest time between two bytes. */
  readonly idleMs: number;
  readonly maxBytes: number;
}

/** The body as it comes. Throws an AleError: `request-timeout`, `body-too-large`, or `cancelled` where the client broke off. */
export async function* uploadOf(
  body: AsyncIterable<Uint8Array>,
  limits: UploadLimits,
): AsyncGenerator<Uint8Array> {
  const source = body[Symbol.asyncIterator]();
  let bytes = 0;
  let ended = false;
  try {
    for (;;) {
      const next = await nextWithin(source, limits.idleMs);
      ended = next.done === true;
      if (next.done) return;
      bytes += next.value.length;
      if (bytes > limits.maxBytes)
        throw new AleError("body-too-large", `the body is larger than ${limits.maxBytes} bytes`, {
          next: "send it in parts (append=true)",
        });
      yield next.value;
    }
  } finally {
    if (!ended) void drain(source);
  }
}

/** A client hears why its upload was refused only if the connection lives until it has stopped sending. */
async function drain(source: AsyncIterator<Uint8Array>): Promise<void> {
  const deadline = Date.now() + DRAIN_MS;
  try {
    while (Date.now() < deadline) if ((await nextWithin(source, DRAIN_MS)).done) return;
    await source.return?.();
  } catch {
    // It broke off, or went quiet: what is left of the connection goes.
    await source.return?.();
  }
}

async function nextWithin(
  source: AsyncIterator<Uint8Array>,
  idleMs: number,
): Promise<IteratorResult<Uint8Array>> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new AleError("request-timeout", `no byte of the body came for ${idleMs} ms`)),
    idleMs,
  );
  try {
    return await Promise.race([source.next(), late.promise]);
  } catch (error) {
    if (error instanceof AleError) throw error;
    throw new AleError("cancelled", "the client broke off the upload");
  } finally {
    clearTimeout(timer);
  }
}

export interface ServerEvent {
  readonly event: string;
  readonly data: unknown;
  /** Of the stream's own kind; who comes back names the last one. */
  readonly id?: string;
}

/** Server-sent events, at the pace of their reader. What `source` throws becomes a last event `error` with a problem. */
export function sendEvents(reply: FastifyReply, source: AsyncIterable<ServerEvent>): FastifyReply {
  async function* lines(): AsyncGenerator<string> {
    // A comment at once: headers then leave before the first event.
    yield ": \n\n";
    try {
      for await (const { event, data, id } of source)
        yield `event: ${event}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
    } catch (thrown) {
      const { error, issues } = errorOf(thrown);
      yield `event: error\ndata: ${JSON.stringify(problemOf(error, issues))}\n\n`;
    }
  }
  return reply
    .header("content-type", "text/event-stream; charset=utf-8")
    .header("cache-control", "no-store")
    .header("x-accel-buffering", "no")
    .serializer((body: unknown) => body as string)
    .send(Readable.from(lines(), { objectMode: false }));
}

/** Merges what several sources push into one sequence that waits for its reader. */
export class EventQueue implements AsyncIterable<ServerEvent> {
  readonly #events: ServerEvent[] = [];
  #wakeReader: (() => void) | undefined;
  #wakeWriters: (() => void)[] = [];
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #abandoned = false;

  get waiting(): number {
    return this.#events.length;
  }

  /** Resolves when there is room for more: at most 64 events wait. False: nobody reads any more. */
  async push(event: ServerEvent): Promise<boolean> {
    if (this.#abandoned) return false;
    this.#events.push(event);
    this.#wakeReader?.();
    while (this.#events.length > 64 && !this.#abandoned)
      await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
    return !this.#abandoned;
  }

  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
  }

  /** The reader gets what waits, then the error. */
  fail(error: unknown): void {
    this.#failure = { error };
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ServerEvent> {
    try {
      for (;;) {
        const event = this.#events.shift();
        if (event !== undefined) {
          for (const wake of this.#wakeWriters.splice(0)) wake();
          yield event;
        } else if (this.#failure !== undefined) throw this.#failure.error;
        else if (this.#ended) return;
        else
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
      }
    } finally {
      this.#abandoned = true;
      for (const wake of this.#wakeWriters.splice(0)) wake();
    }
  }
}
