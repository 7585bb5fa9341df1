import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import { AleError } from "@ale/core";
import rateLimit from "@fastify/rate-limit";
import swagger from "@fastify/swagger";
import websocket from "@fastify/websocket";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import {
  jsonSchemaTransform,
  jsonSchemaTransformObject,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import { problemOf, statusOf } from "../wire/problem.ts";
import { type Audit, argvDigest } from "./audit.ts";
import { type Authenticator, allows, type Caller, type Scope } from "./caller.ts";
import { hostCheck, originCheck } from "./host-check.ts";
import type { Metrics } from "./metrics.ts";
import type { SandboxService } from "./service.ts";
import { Strangers, unauthorized } from "./strangers.ts";
import { errorOf, isFault } from "./thrown.ts";

/**
 * The HTTP application into which every API of the server is put: who calls is known, allowed and written down before a route sees a
 * request, and nothing but a problem or a route's answer leaves. A route without a scope is refused when the server starts.
 */

export interface AppLimits {
  /** Of a body that is read into memory. Streams have their own limits. */
  readonly bodyBytes: number;
  /** Until headers, and a body that is read into memory, must have come. */
  readonly requestTimeoutMs: number;
  /** Calls per token and minute. */
  readonly callsPerMinute: number;
  readonly connections: number;
}

export const DEFAULT_LIMITS: AppLimits = {
  bodyBytes: 32 * 2 ** 20,
  requestTimeoutMs: 30_000,
  callsPerMinute: 60_000,
  connections: 4_096,
};

declare module "fastify" {
  interface FastifyInstance {
    faulty(route: string, cause: unknown): void;
    /** Every route, for tests and documents. */
    described: { readonly methods: string[]; readonly url: string; readonly schema: unknown }[];
    /** Writes the audit's line of a call that no longer is an HTTP request: of a WebSocket, when it ends. */
    audited(request: FastifyRequest, status: number): void;
  }
}

export type App = FastifyInstance<
  Server,
  import("node:http").IncomingMessage,
  import("node:http").ServerResponse,
  import("fastify").FastifyBaseLogger,
  ZodTypeProvider
>;

export interface AppContext {
  readonly service: SandboxService;
  readonly limits: AppLimits;
  /** Aborted when the server shuts down: long streams end with it. */
  readonly closing: AbortSignal;
}

/** An API: routes put into a context of their own, so that it may have its own error handler and parsers. */
export type AppPlugin = (app: App, context: AppContext) => void | Promise<void>;

export interface AppOptions {
  readonly service: SandboxService;
  readonly auth: Authenticator;
  readonly audit: Audit;
  readonly metrics?: Metrics;
  readonly plugins?: readonly AppPlugin[];
  readonly tls?: { readonly key: string; readonly cert: string };
  readonly limits?: Partial<AppLimits>;
  /** Names by which the server may be called; undefined: any. Against DNS rebinding of a server on loopback. */
  readonly hosts?: readonly string[];
  readonly closing?: AbortSignal;
  /** Told of faults of the server itself, whose callers only learn that there was one. Default: standard error. */
  readonly onFault?: (route: string, cause: unknown) => void;
}

declare module "fastify" {
  interface FastifySchema {
    /** What a route answers that no schema describes: a media type, or `websocket`. */
    answers?: string;
  }
  interface FastifyContextConfig {
    /** What a caller needs; `public`: not even a token. */
    scope?: Scope | "public";
    /** The body is read by the route as it comes; without, it must have come within `requestTimeoutMs`. */
    stream?: boolean;
    /** It makes room: served while the audit cannot be written for want of it. */
    frees?: boolean;
  }
  interface FastifyRequest {
    /** Throws for public routes, where nobody is known. */
    readonly caller: Caller;
    noted: { caller: Caller | undefined; sandbox: string | null; argv: string | null; begunAt: number };
    /** What the audit shall say of this call. */
    note(what: { readonly sandbox?: string; readonly argv?: readonly string[] }): void;
  }
}

export async function createApp(options: AppOptions): Promise<App> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const app = Fastify({
    serverFactory: (handler: RequestListener) => httpServer(handler, limits, options.tls),
    bodyLimit: limits.bodyBytes,
    logger: false,
    // A server behind nothing: what a client claims of its address is not believed.
    trustProxy: false,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 512 },
    forceCloseConnections: "idle",
  }).withTypeProvider<ZodTypeProvider>() as unknown as App;
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  const { onFault = (route, cause) => console.error(`fault in ${route}:`, cause) } = options;
  app.decorate("faulty", onFault);
  app.setErrorHandler(sendProblem);
  app.setNotFoundHandler((request) => {
    throw new AleError("route-unknown", `there is no ${request.method} ${request.url.split("?")[0]}`, {
      next: "GET /v1/openapi.json lists what there is",
    });
  });
  guard(app, options, limits.requestTimeoutMs);
  await app.register(rateLimit, {
    max: limits.callsPerMinute,
    timeWindow: 60_000,
    keyGenerator: (request) => request.noted.caller?.tokenId ?? request.ip,
    errorResponseBuilder: (_request, context) =>
      new AleError("too-many-requests", `more than ${context.max} calls in a minute`, {
        next: `try again in ${context.after}`,
      }),
  });
  await app.register(websocket, { options: { maxPayload: 2 ** 20, perMessageDeflate: false } });
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "ALE sandboxes", version: "1", description: "Sandboxes over HTTP." },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
    },
    hideUntagged: true,
    transform: (input) => {
      const { schema, url } = jsonSchemaTransform(input);
      const scope = input.route.config?.scope ?? "admin";
      const security = scope === "public" ? [] : [{ token: [] }];
      return { schema: { ...schema, security, "x-scope": scope, "x-answers": input.schema?.answers }, url };
    },
    transformObject: jsonSchemaTransformObject,
  });
  const context: AppContext = {
    service: options.service,
    limits,
    closing: options.closing ?? new AbortController().signal,
  };
  for (const plugin of options.plugins ?? [])
    await app.register(async (scope) => plugin(scope as unknown as App, context));
  return app;
}

function httpServer(handler: RequestListener, limits: AppLimits, tls: AppOptions["tls"]): Server {
  const timeouts = {
    headersTimeout: limits.requestTimeoutMs,
    // Uploads may take as long as bytes keep coming; bodies in memory have a deadline of their own.
    requestTimeout: 0,
    keepAliveTimeout: 60_000,
    connectionsCheckingInterval: 1_000,
    maxHeaderSize: 16_384,
  };
  const server =
    tls === undefined
      ? createServer(timeouts, handler)
      : createTlsServer({ ...timeouts, ...tls, minVersion: "TLSv1.2" }, handler);
  server.maxConnections = limits.connections;
  // Small answers leave at once.
  server.on("connection", (socket: Socket) => socket.setNoDelay(true));
  return server;
}

/** Who calls, whether they may, and the line in the audit: before and after every route of every plugin. */
function guard(app: App, options: AppOptions, requestTimeoutMs: number): void {
  const { audit, auth } = options;
  const checkHost = hostCheck(options.hosts);
  const strangers = new Strangers();
  app.decorate("audited", (request: FastifyRequest, status: number) => record(audit, request, status));
  app.decorateRequest("noted", null as never);
  app.decorateRequest("caller", {
    getter(this: FastifyRequest): Caller {
      if (this.noted.caller === undefined) throw unauthorized();
      return this.noted.caller;
    },
  } as never);
  app.decorateRequest("note", function (this: FastifyRequest, what) {
    if (what.sandbox !== undefined) this.noted.sandbox = what.sandbox;
    if (what.argv !== undefined) this.noted.argv = argvDigest(what.argv);
  });
  app.decorate("described", []);
  app.addHook("onRoute", (route) => {
    app.described.push({ methods: [route.method].flat(), url: route.url, schema: route.schema });
    if (route.config?.scope === undefined)
      throw new Error(`${route.method} ${route.url}: a route needs a scope, or to be public`);
  });
  app.addHook("onRequest", async (request) => {
    request.noted = { caller: undefined, sandbox: null, argv: null, begunAt: performance.now() };
    if (options.closing?.aborted) throw options.closing.reason;
    checkHost(request);
    originCheck(request);
    const scope = request.routeOptions.config.scope;
    if (scope === "public") return;
    const caller = auth.authenticate(tokenOf(request));
    if (caller === undefined) throw strangers.refuse(request.ip);
    request.noted.caller = caller;
    if (scope !== undefined && !allows(caller, scope))
      throw new AleError("forbidden", `the token ${caller.tokenId} has not the scope ${scope}`, {
        next: `use a token with the scope ${scope}`,
      });
    const waits = request.routeOptions.config.frees === true && audit.canWait;
    if (!isReading(request) && !waits && !audit.healthy && !audit.probe())
      throw new AleError(
        "audit-unwritable",
        "the audit log cannot be written: nothing that changes is served, but removals",
        {
          next: "make room on the server's disk: remove sandboxes, snapshots or images",
        },
      );
  });
  app.addHook("preParsing", async (request, _reply, payload) => {
    if (request.routeOptions.config.stream !== true && !request.ws) refuseSlow(payload, requestTimeoutMs);
    return payload;
  });
  app.addHook("onResponse", async (request, reply) => {
    record(audit, request, reply.statusCode);
    const route = request.routeOptions.url ?? "(none)";
    options.metrics?.call(request.method, route, reply.statusCode, reply.elapsedTime);
  });
}

/** A body that dribbles in is given up. */
function refuseSlow(payload: NodeJS.ReadableStream, timeoutMs: number): void {
  if (!payload.readable) return;
  const timer = setTimeout(
    () =>
      payload.emit("error", new AleError("request-timeout", `the body did not come within ${timeoutMs} ms`)),
    timeoutMs,
  );
  timer.unref();
  const done = (): void => clearTimeout(timer);
  payload.once("end", done).once("close", done).once("error", done);
}

function record(audit: Audit, request: FastifyRequest, status: number): void {
  const { noted } = request;
  const { sandboxId } = (request.params ?? {}) as { sandboxId?: string };
  audit.write({
    time: new Date().toISOString(),
    tenant: noted?.caller?.tenant ?? null,
    token: noted?.caller?.tokenId ?? null,
    remote: request.ip,
    method: request.method,
    route: request.routeOptions.url ?? "(none)",
    sandbox: noted?.sandbox ?? sandboxId?.slice(0, 64) ?? null,
    status,
    ms: Math.round((performance.now() - (noted?.begunAt ?? performance.now())) * 100) / 100,
    ...transferred(request.raw.socket),
    argv: noted?.argv ?? null,
  });
}

const counted = new WeakMap<Socket, { read: number; written: number }>();

/** Bytes since the connection's last call, headers included. */
function transferred(socket: Socket): { bytesIn: number; bytesOut: number } {
  const before = counted.get(socket) ?? { read: 0, written: 0 };
  counted.set(socket, { read: socket.bytesRead, written: socket.bytesWritten });
  return { bytesIn: socket.bytesRead - before.read, bytesOut: socket.bytesWritten - before.written };
}

const isReading = (request: FastifyRequest): boolean =>
  (request.method === "GET" || request.method === "HEAD") && !request.ws;

function tokenOf(request: FastifyRequest): string | undefined {
  const { authorization, "xrl-authorization": rock, "x-api-key": key, "x-key": rockKey } = request.headers;
  const bearer = authorization ?? (typeof rock === "string" ? rock : undefined);
  if (bearer !== undefined) return /^Bearer (\S+)$/i.exec(bearer)?.[1] ?? "";
  const bare = key ?? rockKey;
  return typeof bare === "string" ? bare.replace(/^Bearer /i, "") : undefined;
}

function sendProblem(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const { error, issues } = errorOf(thrown);
  if (isFault(error)) reply.server.faulty(`${request.method} ${request.routeOptions.url}`, error.cause);
  const status = statusOf(error.code);
  if (status === 401) reply.header("www-authenticate", "Bearer");
  reply
    .code(status)
    .type("application/problem+json")
    .serializer((body: unknown) => JSON.stringify(body))
    .send(problemOf(error, issues));
}
