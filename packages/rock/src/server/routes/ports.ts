import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { AleError } from "@ale/core";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Connection } from "../../port/process.ts";
import type { RelayFrame } from "../../wire/frames.ts";
import type { Peer } from "../../wire/peer.ts";
import { PortParams, ProxyParams } from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import { socketRoute } from "../socket-route.ts";
import { gone } from "../streams.ts";
import { problems } from "./responses.ts";

/** Ports that programs in a sandbox listen on, reached through the sandbox, never through the host's network. */

const tags = ["ports"];
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;

export function portRoutes(app: App, context: AppContext): void {
  const { service, closing } = context;

  socketRoute(app, closing, {
    url: "/sandboxes/:sandboxId/ports/:port/relay",
    scope: "exec",
    schema: {
      tags,
      summary: "WebSocket: a TCP connection to a port on the sandbox's loopback",
      description:
        "Once connected, the server sends the text frame `{type:'connected'}`; binary frames in both directions are the connection's bytes.",
      params: PortParams,
      response: problems,
    },
    admit: (request) => {
      service.get(request.caller.tenant, (request.params as { sandboxId: string }).sandboxId);
    },
    serve: async (peer, request, signal) => {
      const { sandboxId, port } = request.params as { sandboxId: string; port: number };
      const sandbox = await service.use(request.caller.tenant, sandboxId, signal);
      const connection = await sandbox.connect(port, signal);
      await peer.send(JSON.stringify({ type: "connected" } satisfies RelayFrame));
      await relay(peer, connection);
    },
  });

  app.route({
    method: [...METHODS],
    url: "/sandboxes/:sandboxId/ports/:port/http/*",
    exposeHeadRoute: false,
    config: { scope: "exec", stream: true },
    schema: {
      tags,
      summary: "HTTP to a port on the sandbox's loopback",
      answers: "*/*",
      description:
        "Credentials of the call are not passed on; cookies and headers that govern a browser do not come back.",
      params: ProxyParams,
      response: problems,
    },
    handler: async (request, reply) => {
      const { sandboxId, port } = request.params;
      const sandbox = await service.use(request.caller.tenant, sandboxId);
      const signal = gone(request, reply, closing);
      const connection = await sandbox.connect(port, signal);
      return forward(request, reply, connection, port, signal);
    },
  });
}

async function relay(peer: Peer, connection: Connection): Promise<void> {
  peer.closed.addEventListener("abort", () => connection.destroy(), { once: true });
  connection.on("error", () => undefined);
  const inward = async (): Promise<void> => {
    for await (const { data, binary } of peer) {
      if (!binary) throw new AleError("request-invalid", "a relay carries binary frames only");
      if (!connection.write(data)) await new Promise((resolve) => connection.once("drain", resolve));
    }
  };
  const outward = async (): Promise<void> => {
    for await (const chunk of connection) await peer.send(chunk as Buffer);
  };
  try {
    await Promise.race([inward(), outward()]);
  } catch (error) {
    if (error instanceof AleError) throw error;
  } finally {
    connection.destroy();
  }
}

function forward(
  request: FastifyRequest,
  reply: FastifyReply,
  connection: Connection,
  port: number,
  signal: AbortSignal,
): Promise<FastifyReply> {
  const path = request.raw.url!.replace(/^.*?\/ports\/\d+\/http/, "");
  const headers = { ...inwardHeaders(request.headers), host: `localhost:${port}`, connection: "close" };
  return new Promise((resolve, reject) => {
    const call = httpRequest(
      { createConnection: () => connection as never, method: request.method, path, headers, signal },
      (answer) => resolve(sendAnswer(reply, answer)),
    );
    call.on("error", (error) => {
      connection.destroy();
      reject(new AleError("connect-failed", `port ${port} of the sandbox: ${error.message}`));
    });
    request.raw.pipe(call);
  });
}

function sendAnswer(reply: FastifyReply, answer: IncomingMessage): FastifyReply {
  reply.code(answer.statusCode ?? 502);
  for (const [name, value] of Object.entries(answer.headers))
    if (value !== undefined && !KEPT_BACK.has(name) && !name.startsWith("access-control-"))
      reply.header(name, value);
  return reply
    .header("content-security-policy", "sandbox allow-scripts allow-forms")
    .header("x-content-type-options", "nosniff")
    .serializer((body: unknown) => body as string)
    .send(answer);
}

const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/** Of the caller: what names it here is no business of a program in a sandbox. */
const CREDENTIALS = new Set([
  ...HOP_BY_HOP,
  "authorization",
  "x-api-key",
  "xrl-authorization",
  "cookie",
  "host",
]);

/** Of the sandbox: what would act in a browser on this server as a whole. */
const KEPT_BACK = new Set([
  ...HOP_BY_HOP,
  "set-cookie",
  "strict-transport-security",
  "public-key-pins",
  "clear-site-data",
  "content-security-policy",
  "service-worker-allowed",
  "www-authenticate",
  "alt-svc",
  "nel",
  "report-to",
  "reporting-endpoints",
  "x-content-type-options",
]);

const inwardHeaders = (headers: IncomingHttpHeaders): IncomingHttpHeaders =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !CREDENTIALS.has(name)));
