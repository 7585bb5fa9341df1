import { Agent, request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import type { Duplex } from "node:stream";
import { AleError } from "@ale/core";
import { z } from "zod";

/**
 * A client of the Docker Engine REST API on a unix socket, spoken by Docker, Docker Desktop, colima and `podman system service`.
 * Knows requests, streams, hijacked connections and errors; nothing of sandboxes.
 */

/** Oldest API whose requests are made here: one-shot statistics and `platform` need it. */
export const OLDEST_API = "1.41";
/** Newest API that was tried; a newer engine is spoken to in this one. */
export const NEWEST_API = "1.47";

const Version = z.object({
  ApiVersion: z.string(),
  MinAPIVersion: z.string().default("1.12"),
  Version: z.string(),
  Os: z.string(),
  Arch: z.string(),
  Components: z.array(z.object({ Name: z.string(), Version: z.string() })).default([]),
});

export interface EngineVersion {
  readonly name: "docker" | "podman";
  /** The engine's own version, e.g. "27.3.1". */
  readonly version: string;
  /** What requests are made in: at most the engine's newest and ours. */
  readonly api: string;
  /** Machine of the containers, in Node's words. */
  readonly arch: string;
}

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

/** Some engines repeat the request in their complaint. */
const LONGEST_COMPLAINT = 600;
const Complaint = z.object({ message: z.string() });

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
    const text = await textOf(body);
    const complaint = Complaint.safeParse(parseJson(text));
    const words = (complaint.success ? complaint.data.message : text.trim()).slice(0, LONGEST_COMPLAINT);
    throw new AleError(codeOf(status), `the engine refused ${method} ${path} (${status}): ${words}`, {
      next: status >= 500 ? "see the engine's own log" : "see the engine's words above",
    });
  }
}

const CODES: Readonly<Record<number, string>> = {
  400: "engine-bad-request",
  403: "engine-forbidden",
  404: "engine-not-found",
  409: "engine-conflict",
};
const codeOf = (status: number): string => CODES[status] ?? "engine-failed";

function negotiate(found: z.infer<typeof Version>, socketPath: string): EngineVersion {
  if (found.Os !== "linux")
    throw new AleError("engine-unsupported", `the engine at ${socketPath} runs ${found.Os} containers`, {
      next: "switch it to Linux containers",
    });
  const api = older(found.ApiVersion, NEWEST_API);
  if (isOlder(api, OLDEST_API) || isOlder(api, found.MinAPIVersion))
    throw new AleError(
      "engine-unsupported",
      `the engine at ${socketPath} speaks API ${found.MinAPIVersion} to ${found.ApiVersion}, and ${OLDEST_API} to ${NEWEST_API} is spoken here`,
      { next: `use Docker 20.10 or newer, or Podman 4 or newer` },
    );
  const podman = found.Components.some((component) => component.Name === "Podman Engine");
  return { name: podman ? "podman" : "docker", version: found.Version, api, arch: archOf(found.Arch) };
}

const archOf = (arch: string): string => ({ amd64: "x64", x86_64: "x64", aarch64: "arm64" })[arch] ?? arch;

function isOlder(a: string, b: string): boolean {
  const [majorA = 0, minorA = 0] = a.split(".").map(Number);
  const [majorB = 0, minorB = 0] = b.split(".").map(Number);
  return majorA !== majorB ? majorA < majorB : minorA < minorB;
}
const older = (a: string, b: string): string => (isOlder(a, b) ? a : b);

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

/** At most 64 MiB: an inspection is some kilobytes. */
const LONGEST_TEXT = 64 * 2 ** 20;

export async function textOf(body: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let total = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    total += chunk.length;
    if (total > LONGEST_TEXT) throw new AleError("engine-reply", "the engine's answer does not end");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const notAnEngine = (socketPath: string, why: string): AleError =>
  new AleError("engine-unsupported", `what listens at ${socketPath} is no container engine: ${why}`, {
    next: "point DOCKER_HOST at the socket of Docker or Podman",
  });

function unreachable(socketPath: string, cause: unknown): AleError {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ECONNREFUSED")
    return new AleError("engine-missing", `no container engine listens at ${socketPath}`, {
      next: "start Docker (or `podman system service`), or point DOCKER_HOST at its socket",
      cause,
    });
  if (code === "EACCES" || code === "EPERM")
    return new AleError("engine-permission", `you may not use the container engine at ${socketPath}`, {
      next: "add yourself to the group that owns the socket (Docker: `docker`; whoever is in it is root on that host), or use a rootless engine",
      cause,
    });
  if (code?.startsWith("HPE_")) return notAnEngine(socketPath, "it does not speak HTTP");
  return new AleError("engine-gone", `the connection to the engine at ${socketPath} broke: ${message}`, {
    next: "see whether the engine still runs",
    cause,
  });
}
