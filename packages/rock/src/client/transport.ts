import { randomBytes } from "node:crypto";
import { Agent, type IncomingMessage, type OutgoingHttpHeaders, request } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core/result";
import { WebSocket } from "ws";
import { Peer } from "../wire/peer.ts";
import type { Problem } from "../wire/problem.ts";

/**
 * Calls to a server: connections kept alive and shared, problems turned back into the AleErrors they were, and calls repeated only where
 * doing them twice is the same as doing them once.
 */

export interface TransportOptions {
  /** E.g. http://127.0.0.1:4180. */
  readonly url: string;
  readonly token?: string;
  /** PEM of the certificate to trust, for a server with one of its own. */
  readonly ca?: string;
  /** How often a repeatable call is repeated. Default: 4. */
  readonly retries?: number;
}

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Below /v1. */
  readonly path: string;
  readonly query?: Query;
  readonly json?: unknown;
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Makes a POST repeatable: the server does it once. */
  readonly idempotencyKey?: string;
  /** Does not keep this process alive. */
  readonly background?: boolean;
  readonly signal?: AbortSignal;
}

const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 2_000;

export class Transport {
  readonly #base: URL;
  readonly #options: TransportOptions;
  readonly #agent: Agent | TlsAgent;

  constructor(options: TransportOptions) {
    this.#base = baseOf(options.url);
    this.#options = options;
    const pooled = { keepAlive: true, maxSockets: 256, scheduling: "lifo" as const };
    this.#agent =
      this.#base.protocol === "https:"
        ? new TlsAgent({ ...pooled, ...(options.ca === undefined ? {} : { ca: options.ca }) })
        : new Agent(pooled);
  }

  async json<T>(call: Call): Promise<T> {
    const text = await textOf(await this.open(call));
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }

  async bytes(call: Call): Promise<Buffer> {
    return bytesOf(await this.open(call));
  }

  /** The answer with its body still to be read, after its status was found good. Throws the problem's AleError otherwise. */
  async open(call: Call): Promise<IncomingMessage> {
    const repeatable = isRepeatable(call);
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(call);
      } catch (error) {
        const left = (this.#options.retries ?? 4) - attempt;
        if (!repeatable || left <= 0 || call.signal?.aborted || !isPassing(error)) throw error;
        // Full jitter: those that failed together do not come back together.
        const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt);
        await sleep(Math.random() * longest, undefined, signalOf(call));
      }
    }
  }

  /** A WebSocket below /v1. Throws the problem's AleError where the server refuses. */
  socket(path: string, query: Query, signal?: AbortSignal): Promise<Peer> {
    signal?.throwIfAborted();
    const url = this.#urlOf(path, query);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, {
      headers: this.#credentials(),
      perMessageDeflate: false,
      maxPayload: 64 * 2 ** 20,
      ...(this.#options.ca === undefined ? {} : { ca: this.#options.ca }),
    });
    const peer = new Peer(socket);
    return new Promise((resolve, reject) => {
      const cancel = (): void => {
        reject(signal?.reason);
        socket.terminate();
      };
      signal?.addEventListener("abort", cancel, { once: true });
      socket.once("open", () => {
        signal?.removeEventListener("abort", cancel);
        resolve(peer);
      });
      socket.once("unexpected-response", (_request, answer: IncomingMessage) => {
        problemFrom(answer).then(reject, reject);
      });
      socket.once("error", (cause) => reject(unreachable(this.#base, cause)));
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  #credentials(): OutgoingHttpHeaders {
    const { token } = this.#options;
    return token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  #urlOf(path: string, query: Query = {}): URL {
    const url = new URL(`v1${path}`, this.#base);
    for (const [name, value] of Object.entries(query))
      for (const one of [value ?? []].flat()) url.searchParams.append(name, String(one));
    return url;
  }

  #once(call: Call): Promise<IncomingMessage> {
    call.signal?.throwIfAborted();
    const payload = call.json === undefined ? undefined : Buffer.from(JSON.stringify(call.json));
    const whole = payload ?? (call.body instanceof Uint8Array ? call.body : undefined);
    const headers: OutgoingHttpHeaders = {
      ...this.#credentials(),
      ...(payload === undefined ? {} : { "content-type": "application/json" }),
      ...(call.body === undefined ? {} : { "content-type": call.contentType ?? "application/octet-stream" }),
      ...(whole === undefined ? {} : { "content-length": whole.length }),
      ...(call.idempotencyKey === undefined ? {} : { "idempotency-key": call.idempotencyKey }),
      ...call.headers,
    };
    const send = this.#base.protocol === "https:" ? tlsRequest : request;
    return new Promise((resolve, reject) => {
      const outgoing = send(this.#urlOf(call.path, call.query), {
        method: call.method,
        agent: this.#agent,
        headers,
        ...signalOf(call),
      });
      if (call.background) outgoing.once("socket", (socket) => socket.unref());
      let answered = false;
      outgoing.once("response", (answer) => {
        answered = true;
        if (answer.statusCode! < 400) resolve(answer);
        else problemFrom(answer).then(reject, reject);
      });
      // An upload that was refused breaks off; the refusal is then the better reason.
      outgoing.on("error", (cause) => {
        if (!answered) reject(call.signal?.aborted ? call.signal.reason : unreachable(this.#base, cause));
      });
      if (whole !== undefined || call.body === undefined) outgoing.end(whole);
      else
        pipeline(Readable.from(call.body as AsyncIterable<Uint8Array>), outgoing).catch((error) => {
          if (!answered) reject(error.code === undefined ? error : unreachable(this.#base, error));
        });
    });
  }
}

export const freshKey = (): string => randomBytes(16).toString("hex");

const signalOf = ({ signal }: Call): { signal?: AbortSignal } => (signal === undefined ? {} : { signal });

function baseOf(text: string): URL {
  const url = URL.parse(text.endsWith("/") ? text : `${text}/`);
  if (url === null || !["http:", "https:"].includes(url.protocol))
    throw new AleError("url-invalid", `${text} is not a server's address`, {
      next: "write it as http://host:port or https://host:port",
    });
  return url;
}

/** A stream that was sent once is gone. */
function isRepeatable({ method, body, idempotencyKey }: Call): boolean {
  if (body !== undefined && !(body instanceof Uint8Array)) return false;
  return method !== "POST" || idempotencyKey !== undefined;
}

/** Failures that may be over soon: no connection, a server that is starting or closing, too many calls. */
/** What the next attempt may not meet. */
export function isPassing(error: unknown): boolean {
  if (!(error instanceof AleError)) return false;
  return ["server-unreachable", "server-closing", "too-many-requests", "at-capacity"].includes(error.code);
}

function unreachable(base: URL, cause: unknown): unknown {
  if (cause instanceof AleError) return cause;
  const { code = "", message } = cause as NodeJS.ErrnoException;
  if (/CERT|SIGNED|SSL|TLS/.test(code))
    return new AleError("certificate-refused", `${base.origin}: ${message}`, {
      cause,
      next: "give the server's certificate (ca)",
    });
  return new AleError("server-unreachable", `${base.origin}: ${message || code}`, {
    cause,
    next: "start the server (ale rock serve), or check its address",
  });
}

/** What the server said was wrong, as the AleError it was there. */
async function problemFrom(answer: IncomingMessage): Promise<AleError> {
  const text = await textOf(answer);
  if (answer.headers["content-type"]?.includes("json")) return errorFromProblem(JSON.parse(text) as Problem);
  return new AleError("server-answer", `the server answered ${answer.statusCode}: ${text.slice(0, 200)}`, {
    next: "check that the address is that of ale rock serve",
  });
}

export function errorFromProblem({ code, detail, next }: Problem): AleError {
  return new AleError(code, detail, next === null ? {} : { next });
}

async function bytesOf(answer: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

const textOf = async (answer: IncomingMessage): Promise<string> => (await bytesOf(answer)).toString("utf8");
