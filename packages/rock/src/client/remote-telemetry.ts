import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Telemetry } from "@ale/core";
import { AleError } from "@ale/core/result";
import { serverEvents } from "./server-events.ts";
import { isPassing, type Transport } from "./transport.ts";

/**
 * The telemetry of a sandbox on a server: one stream for all who listen here, open while anybody does. Where the connection breaks, it goes on after
 * the last record that came; what is lost all the same is told as a record `telemetry.gap`, never left out in silence.
 */
export class RemoteTelemetry {
  readonly #transport: Transport;
  readonly #sandbox: string;
  readonly #path: string;
  readonly #listeners = new Set<(record: Telemetry) => void>();
  readonly #drains = new Map<string, () => void>();
  #stream: Stream | undefined;

  constructor(transport: Transport, sandbox: string, path: string) {
    this.#transport = transport;
    this.#sandbox = sandbox;
    this.#path = path;
  }

  listen(listener: (record: Telemetry) => void): Disposable {
    const told = (record: Telemetry): void => listener(record);
    this.#listeners.add(told);
    this.#stream ??= this.#open();
    return {
      [Symbol.dispose]: () => {
        this.#listeners.delete(told);
        if (this.#listeners.size > 0) return;
        this.#stream?.stop.abort();
        this.#stream = undefined;
      },
    };
  }

  /** Throws an AleError where the server cannot be reached, or the stream had to be given up. */
  async drain(): Promise<void> {
    const stream = this.#stream;
    if (stream === undefined) return;
    await stream.listening;
    const token = randomBytes(8).toString("hex");
    const heard = new Promise<true>((resolve) => this.#drains.set(token, () => resolve(true)));
    const over = stream.over.then(() => true as const);
    try {
      const path = `${this.#path}/telemetry/drain`;
      stream.keepAwake(true);
      for (;;) {
        // The answer may be lost with the connection.
        const anew = stream.anew().then(() => false as const);
        await this.#transport.json({ method: "POST", path, json: { token } });
        if (await Promise.race([heard, over, anew])) return;
      }
    } finally {
      this.#drains.delete(token);
      if (this.#drains.size === 0) stream.keepAwake(false);
    }
  }

  #open(): Stream {
    const stream = new Stream((each, signal) => this.#read(each, signal));
    stream.over.catch(() => {});
    return stream;
  }

  /** Until the sandbox has ended, nobody listens, or the server is given up. */
  async #read(began: (socket: Socket) => void, signal: AbortSignal): Promise<void> {
    // Only who listens pays for the schemas.
    const { Telemetry: schema } = await import("@ale/core");
    const place: Place = { cursor: undefined };
    for (let failedAt: number | undefined; ; ) {
      try {
        const ended = await this.#readOnce(schema.parse, place, signal, (socket) => {
          failedAt = undefined;
          began(socket);
        });
        if (ended || signal.aborted) return;
      } catch (error) {
        if (signal.aborted) return;
        // Who was never told anything misses nothing that he was promised.
        if (place.cursor === undefined) throw error;
        if (!hasBroken(error)) {
          this.#tell(this.#gap(null, `the stream broke off: ${(error as Error).message}`));
          throw error;
        }
      }
      failedAt ??= performance.now();
      if (performance.now() - failedAt > GIVE_UP_MS) {
        const error = new AleError("server-unreachable", "the server did not come back", {
          next: "start it again (ale rock serve), and listen anew",
        });
        this.#tell(this.#gap(null, error.message));
        throw error;
      }
      await sleep(AGAIN_MS, undefined, { ref: this.#drains.size > 0, signal }).catch(() => {});
    }
  }

  /** True where the sandbox has ended; false where only the connection has. Throws what the server or the network says. */
  async #readOnce(
    parse: (data: unknown) => Telemetry,
    place: Place,
    signal: AbortSignal,
    began: (socket: Socket) => void,
  ): Promise<boolean> {
    const query = place.cursor === undefined ? {} : { after: place.cursor };
    const answer = await this.#transport.open({
      method: "GET",
      path: `${this.#path}/telemetry`,
      query,
      signal,
    });
    for await (const { event, data, id } of serverEvents(answer)) {
      if (event === "listening") {
        place.cursor = (data as { cursor: string }).cursor;
        began(answer.socket);
      } else if (event === "record") {
        this.#tell(parse(data));
        place.cursor = id ?? place.cursor;
      } else if (event === "missed") {
        const { records } = data as { records: number | null };
        this.#tell(this.#gap(records, "the connection to the server was broken"));
      } else if (event === "drained") this.#drains.get((data as { token: string }).token)?.();
      else if (event === "end") return true;
    }
    return false;
  }

  #gap(records: number | null, why: string): Telemetry {
    return {
      at: performance.timeOrigin + performance.now(),
      kind: "telemetry.gap",
      source: "tool",
      sandbox: this.#sandbox,
      tool: { name: "telemetry", command: why },
      ...(records === null ? {} : { suppressed: records }),
    };
  }

  #tell(record: Telemetry): void {
    for (const listener of this.#listeners) listener(record);
  }
}

const AGAIN_MS = 250;
/** A server that is started again takes seconds. */
const GIVE_UP_MS = 60_000;

/** Where the reader is; lives longer than a connection. */
interface Place {
  cursor: string | undefined;
}

/** A connection that broke. What the server itself says stands, and so does what it says in words that nobody understands. */
const hasBroken = (error: unknown): boolean =>
  error instanceof AleError ? isPassing(error) : (error as NodeJS.ErrnoException).code !== undefined;

/** The reading of it, over all its connections. */
class Stream {
  readonly stop = new AbortController();
  /** Resolves when the server tells; rejects where it refuses. */
  readonly listening: Promise<void>;
  readonly over: Promise<void>;
  #socket: Socket | undefined;
  #awake = false;
  #anew = Promise.withResolvers<void>();

  constructor(read: (began: (socket: Socket) => void, signal: AbortSignal) => Promise<void>) {
    const listening = Promise.withResolvers<void>();
    this.listening = listening.promise;
    // Who drains hears of it.
    this.listening.catch(() => {});
    this.over = read((socket) => {
      this.#socket = socket;
      this.keepAwake(this.#awake);
      listening.resolve();
      this.#anew.resolve();
      this.#anew = Promise.withResolvers<void>();
    }, this.stop.signal);
    this.over.catch((error: unknown) => listening.reject(error));
  }

  /** Resolves when another connection has begun. */
  anew(): Promise<void> {
    return this.#anew.promise;
  }

  /** Who only listens may end; who waits (for this, or in `drain`) is waited for. */
  keepAwake(awake: boolean): void {
    this.#awake = awake;
    if (awake) this.#socket?.ref();
    else this.#socket?.unref();
  }
}
