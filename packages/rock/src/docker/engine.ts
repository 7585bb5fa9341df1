import { Agent, request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import type { Duplex } from "node:stream";
import { AleError } from "@ale/core";
import type { z } from "zod";
import { notAnEngine, refused, unreachable } from "./engine-errors.ts";
import { parseJson, textOf } from "./engine-text.ts";
import { type EngineVersion, negotiate, Version } from "./engine-version.ts";

/**
 * A client of the Docker Engine REST API on a unix socket, spoken by Docker, Docker Desktop, colima and `podman system service`.
 * Knows requests, streams, hijacked connections and errors; nothing of sandboxes.
 */

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface EngineRequest {
  readonly query?: Query;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as a tar stream, in chunks of its own. */
  readonly tar?: AsyncIterable<Uint8Array> | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** Statuses beyond 2xx that the caller knows what to do with. */
  readonly accept?: readonly number[];
}

export interface EngineReply {
  readonly status: number;
  readonly body: IncomingMessage;
}

/** One engine. Owns idle connections; `close` ends them. */
export class Engine {
  readonly socketPath: string;
  readonly version: EngineVersion;
  readonly #agent: Agent;

  private constructor(socketPath: string, version: EngineVersion) {
    this.socketPath = socketPath;
    this.version = version;
    this.#agent = new Agent({ keepAlive: true, maxFreeSockets: 4 });
  }

  /** Throws an AleError: nothing listens there, no permission, not an engine, too old. */
  static async open(socketPath: string, signal?: AbortSignal): Promise<Engine> {
    const probe = new Engine(socketPath, { name: "docker", version: "", api: "", arch: "" });
    try {
      const reply = await probe.request("GET", "/version", {}, signal);
      const parsed = Version.safeParse(parseJson(await textOf(reply.body)));
      if (!parsed.success) throw notAnEngine(socketPath, "its answer to GET /version has another form");
      return new Engine(socketPath, negotiate(parsed.data, socketPath));
    } finally {
      probe.close();
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  /** The reply's body is the caller's to read. Throws an AleError with the engine's own words for any other status. */
  async request(
    method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE",
    path: string,
    options: EngineRequest = {},
    signal?: AbortSignal,
  ): Promise<EngineReply> {
    signal?.throwIfAborted();
    const body = options.json === undefined ? undefined : Buffer.from(JSON.stringify(options.json));
    const headers: OutgoingHttpHeaders = { ...options.headers };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      headers["content-length"] = body.length;
    } else if (options.tar !== undefined) headers["content-type"] = "application/x-tar";
    else if (method === "POST" || method === "PUT") headers["content-length"] = 0;
    const request = httpRequest({
      ...this.#target(method, path, options.query),
      headers,
      agent: this.#agent,
    });
    const abort = (): void => void request.destroy(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const response = new Promise<IncomingMessage>((resolve, reject) => {
        request.once("response", resolve);
        request.once("error", reject);
      });
      // An engine that refuses half-way answers first and then ends the connection: its answer counts.
      const sent = options.tar === undefined ? endWith(request, body) : pump(request, options.tar);
      const reply = await Promise.race([response, sent.then(() => response)]);
      return await this.#judge(method, path, reply, options.accept ?? []);
    } catch (cause) {
      signal?.throwIfAborted();
      throw cause instanceof AleError ? cause : unreachable(this.socketPath, cause);
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** The parsed body of a reply. */
  async json<T>(
    method: "GET" | "POST" | "DELETE",
    path: string,
    schema: z.ZodType<T>,
    options: EngineRequest = {},
    signal?: AbortSignal,
  ): Promise<T> {
    const { body } = await this.request(method, path, options, signal);
    const parsed = schema.safeParse(parseJson(await textOf(body)));
    if (parsed.success) return parsed.data;
    throw new AleError("engine-reply", `${method} ${path}: the engine's answer has another form`, {
      next: "check that the engine is a Docker or Podman of a supported version",
      cause: parsed.error,
    });
  }

  /** A request whose answer says nothing more. Returns its status. */
  async order(
    method: "POST" | "PUT" | "DELETE",
    path: string,
    options: EngineRequest = {},
    signal?: AbortSignal,
  ): Promise<number> {
    const { status, body } = await this.request(method, path, options, signal);
    await textOf(body);
    return status;
  }

  /** JSON values, one a line or merely one after the other, as they come: progress, events. */
  async *values(
    method: "GET" | "POST",
    path: string,
    options: EngineRequest = {},
    signal?: AbortSignal,
  ): AsyncGenerator<unknown> {
    const { body } = await this.request(method, path, options, signal);
    const stop = (): void => void body.destroy();
    signal?.addEventListener("abort", stop, { once: true });
    let rest = "";
    const decoder = new TextDecoder();
    try {
      for await (const chunk of body) {
        rest += decoder.decode(chunk as Uint8Array, { stream: true });
        const lines = rest.split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) if (line.trim() !== "") yield parseJson(line);
      }
      if (rest.trim() !== "") yield parseJson(rest);
    } catch (cause) {
      signal?.throwIfAborted();
      throw cause instanceof AleError ? cause : unreachable(this.socketPath, cause);
    } finally {
      signal?.removeEventListener("abort", stop);
      body.destroy();
    }
  }

  /** A connection that is a plain byte stream after the engine's first answer. */
  async hijack(path: string, query: Query, signal?: AbortSignal): Promise<Duplex> {
    signal?.throwIfAborted();
    const request = httpRequest({
      ...this.#target("POST", path, query),
      agent: false,
      headers: { connection: "Upgrade", upgrade: "tcp", "content-length": 0 },
    });
    const abort = (): void => void request.destroy(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return await new Promise<Duplex>((resolve, reject) => {
        request.once("upgrade", (_response, socket, head) => {
          if (head.length > 0) socket.unshift(head);
          resolve(socket);
        });
        request.once("response", (response) => {
          // A 2xx here would be an engine that hijacks without saying so, which no version in use does.
          this.#judge("POST", path, response, []).then(() => reject(new Error("not upgraded")), reject);
        });
        request.once("error", reject);
        request.end();
      });
    } catch (cause) {
      signal?.throwIfAborted();
      throw cause instanceof AleError ? cause : unreachable(this.socketPath, cause);
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  #target(method: string, path: string, query: Query = {}) {
    const pairs = Object.entries(query).flatMap(([name, value]): [string, string][] => {
      if (value === undefined) return [];
      return typeof value === "object" ? value.map((one) => [name, one]) : [[name, String(value)]];
    });
    const search = new URLSearchParams(pairs).toString();
    const prefix = this.version.api === "" ? "" : `/v${this.version.api}`;
    return {
      socketPath: this.socketPath,
      method,
      path: `${prefix}${path}${search === "" ? "" : `?${search}`}`,
    };
  }

  async #judge(
    method: string,
    path: string,
    body: IncomingMessage,
    accept: readonly number[],
  ): Promise<EngineReply> {
    const status = body.statusCode ?? 0;
    if ((status >= 200 && status < 300) || accept.includes(status)) return { status, body };
    throw refused(method, path, status, await textOf(body));
  }
}

type Outgoing = ReturnType<typeof httpRequest>;

function endWith(request: Outgoing, body: Buffer | undefined): Promise<void> {
  return new Promise((resolve) => void request.end(body, () => resolve()));
}

async function pump(request: Outgoing, tar: AsyncIterable<Uint8Array> | Uint8Array): Promise<void> {
  const chunks = tar instanceof Uint8Array ? [tar] : tar;
  const closed = new Promise<void>((resolve) => void request.once("close", () => resolve()));
  for await (const chunk of chunks) {
    if (request.destroyed) return;
    if (!request.write(chunk))
      await Promise.race([new Promise((resolve) => void request.once("drain", resolve)), closed]);
  }
  request.end();
}
