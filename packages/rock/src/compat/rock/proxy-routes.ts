import { request as httpRequest } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { AleError } from "@ale/core";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type RawData, WebSocket } from "ws";
import type { App } from "../../server/app.ts";
import { errorOf } from "../../server/thrown.ts";
import { statusOf as httpStatusOf } from "../../wire/problem.ts";
import { goneSignal, scopeOf, tenantOf } from "../caller.ts";
import type { RockContext } from "./context.ts";
import { reasonOf } from "./envelope.ts";
import { answered, forwarded, portOf, type Target, targetOf } from "./proxy-target.ts";
import { PREFIX } from "./route.ts";

/**
 * Programs that listen inside a sandbox, reached through the server: HTTP, WebSocket, and any TCP protocol as frames of a WebSocket. No port
 * of the host is involved.
 */

const ANSWER_TIMEOUT_MS = 120_000;
const IDLE_TIMEOUT_MS = 300_000;
/** Bytes that may wait for a slow reader before the other side is made to wait. */
const HIGH_WATER = 1 << 20;
const REFUSED = 1008;
const BROKEN = 1011;

type Proxied = FastifyRequest<{ Params: { sandboxId: string } }>;

export function proxyRoutes(app: App, context: RockContext): void {
  const config = { scope: scopeOf(context.options, "exec") };
  const schema = { hide: true } as const;
  for (const tail of ["/proxy", "/proxy/*"])
    httpAndWebSocket(app, context, `${PREFIX}/sandboxes/:sandboxId${tail}`);
  app.get<{ Params: { sandboxId: string }; Querystring: { port?: string } }>(
    `${PREFIX}/sandboxes/:sandboxId/portforward`,
    { websocket: true, config, schema },
    (socket, request) => void portForward(context, socket, request as unknown as Proxied, request.query.port),
  );
  for (const tail of ["/vnc", "/vnc/*"])
    app.all(`${PREFIX}/sandboxes/:sandboxId${tail}`, { config, schema }, async () => {
      throw new AleError("route-unknown", "sandboxes of this server have no screen", {
        next: "run a VNC server in the sandbox and reach its port through the proxy",
      });
    });
}

function httpAndWebSocket(app: App, context: RockContext, url: string): void {
  const config = { scope: scopeOf(context.options, "exec") };
  const schema = { hide: true } as const;
  // Bodies pass as they are.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, payload, done) => done(null, payload));
  app.route<{ Params: { sandboxId: string } }>({
    method: "GET",
    url,
    config,
    schema,
    handler: (request, reply) => proxyHttp(context, request as Proxied, reply),
    wsHandler: (socket, request) => void proxyWebSocket(context, socket, request as unknown as Proxied),
  });
  app.route<{ Params: { sandboxId: string } }>({
    method: ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    url,
    config,
    schema,
    handler: (request, reply) => proxyHttp(context, request as Proxied, reply),
  });
}

function target(request: Proxied): Target {
  const url = request.raw.url ?? "";
  const base = `${PREFIX}/sandboxes/${request.params.sandboxId}/proxy`;
  const header = request.headers["x-rock-target-port"];
  return targetOf(base, url.slice(base.length), typeof header === "string" ? header : undefined);
}

async function dial(
  { service, options }: RockContext,
  request: Proxied,
  port: number,
  signal: AbortSignal,
): Promise<Duplex> {
  const { sandboxId } = request.params;
  const sandbox = await service.use(tenantOf(options, request as FastifyRequest), sandboxId, signal);
  return sandbox.connect(port, signal);
}

async function proxyHttp(context: RockContext, request: Proxied, reply: FastifyReply): Promise<FastifyReply> {
  const gone = goneSignal(reply);
  try {
    const to = target(request);
    const connection = await dial(context, request, to.port, gone);
    const answer = await ask(connection, request, to, gone);
    return await reply
      .code(answer.statusCode ?? 502)
      .headers(answered(answer.headers, to))
      .send(answer);
  } catch (thrown) {
    const { error } = errorOf(thrown);
    return reply.code(httpStatusOf(error.code)).send({ detail: reasonOf(error) });
  }
}

function ask(
  connection: Duplex,
  request: Proxied,
  { path, port }: Target,
  signal: AbortSignal,
): Promise<import("node:http").IncomingMessage> {
  return new Promise((resolve, reject) => {
    const broken = (cause: Error): void => {
      connection.destroy();
      reject(new AleError("connect-failed", `port ${port} did not answer: ${cause.message}`, { cause }));
    };
    const out = httpRequest({
      method: request.method,
      path,
      headers: { ...forwarded(request.headers), host: `sandbox:${port}`, connection: "close" },
      createConnection: () => connection as never,
      signal,
    });
    const timer = setTimeout(
      () => out.destroy(new Error(`nothing came within ${ANSWER_TIMEOUT_MS / 1000} s`)),
      ANSWER_TIMEOUT_MS,
    );
    out.once("response", (answer) => {
      clearTimeout(timer);
      answer.once("close", () => connection.destroy());
      resolve(answer);
    });
    out.once("error", (error) => {
      clearTimeout(timer);
      broken(error);
    });
    const body = request.body as Readable | undefined;
    if (body === undefined || body === null) out.end();
    else body.pipe(out);
  });
}

async function proxyWebSocket(context: RockContext, client: WebSocket, request: Proxied): Promise<void> {
  const waiting = new Pending(client);
  let to: Target;
  try {
    to = target(request);
  } catch (error) {
    return client.close(REFUSED, short(error));
  }
  try {
    const gone = new AbortController();
    client.once("close", () => gone.abort());
    const connection = await dial(context, request, to.port, gone.signal);
    const headers = forwarded(request.headers);
    for (const name of Object.keys(headers)) if (name.startsWith("sec-websocket-")) delete headers[name];
    const protocols = client.protocol === "" ? [] : [client.protocol];
    const inside = new WebSocket(`ws://sandbox:${to.port}${to.path}`, protocols, {
      headers,
      createConnection: () => connection as never,
      perMessageDeflate: false,
      handshakeTimeout: 10_000,
    } as never);
    join(client, inside, waiting);
  } catch (error) {
    client.close(BROKEN, short(error));
  }
}

/** What a client sends before the other side is there. */
class Pending {
  readonly messages: { data: RawData; binary: boolean }[] = [];
  readonly stop: () => void;

  constructor(client: WebSocket) {
    const keep = (data: RawData, binary: boolean): void => {
      this.messages.push({ data, binary });
      if (this.messages.length >= 64) client.pause();
    };
    client.on("message", keep);
    this.stop = () => client.off("message", keep);
  }
}

function join(client: WebSocket, inside: WebSocket, pending: Pending): void {
  const code = (from: number): number =>
    from >= 1000 && from <= 4999 && ![1004, 1005, 1006, 1015].includes(from) ? from : 1000;
  inside.once("open", () => {
    pending.stop();
    for (const { data, binary } of pending.messages) inside.send(data, { binary });
    relay(client, inside);
    client.resume();
  });
  relay(inside, client);
  inside.once("error", (error) => client.close(BROKEN, short(error)));
  inside.once("close", (from, reason) => client.close(code(from), reason));
  client.once("close", (from, reason) => {
    if (inside.readyState === WebSocket.CONNECTING) inside.terminate();
    else inside.close(code(from), reason);
  });
}

function relay(from: WebSocket, to: WebSocket): void {
  from.on("message", (data, binary) => {
    to.send(data, { binary }, () => from.resume());
    if (to.bufferedAmount > HIGH_WATER) from.pause();
  });
}

async function portForward(
  context: RockContext,
  client: WebSocket,
  request: Proxied,
  portText: string | undefined,
): Promise<void> {
  const waiting = new Pending(client);
  let port: number;
  try {
    port = portOf(portText ?? "(none)");
  } catch (error) {
    return client.close(REFUSED, short(error));
  }
  let connection: Duplex;
  const gone = new AbortController();
  client.once("close", () => gone.abort());
  try {
    const limit = AbortSignal.any([gone.signal, AbortSignal.timeout(10_000)]);
    connection = await dial(context, request, port, limit);
  } catch (error) {
    return client.close(BROKEN, short(error));
  }
  waiting.stop();
  pump(client, connection, waiting);
}

function pump(client: WebSocket, connection: Duplex, pending: Pending): void {
  const idle = setTimeout(() => client.close(1000, "idle"), IDLE_TIMEOUT_MS);
  const write = (data: RawData): void => {
    idle.refresh();
    if (!connection.write(data as Buffer)) client.pause();
  };
  for (const { data } of pending.messages) write(data);
  client.on("message", write);
  client.resume();
  connection.on("drain", () => client.resume());
  connection.on("data", (chunk: Buffer) => {
    idle.refresh();
    client.send(chunk, { binary: true }, () => connection.resume());
    if (client.bufferedAmount > HIGH_WATER) connection.pause();
  });
  connection.once("error", (error) => client.close(BROKEN, short(error)));
  connection.once("close", () => client.close(1000));
  client.once("close", () => {
    clearTimeout(idle);
    connection.destroy();
  });
}

/** A close reason has room for 123 bytes. */
const short = (error: unknown): string => Buffer.from(reasonOf(error)).subarray(0, 120).toString();
