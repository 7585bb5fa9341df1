import { AleError } from "@ale/core";
import type { FastifyRequest, RouteHandlerMethod } from "fastify";
import { Peer } from "../wire/peer.ts";
import { problemOf } from "../wire/problem.ts";
import type { App } from "./app.ts";
import type { Scope } from "./caller.ts";
import { errorOf, isFault } from "./thrown.ts";

/** Routes whose connection becomes a WebSocket. They stand in the OpenAPI document as a GET that answers 101. */

export interface SocketRoute<Request extends FastifyRequest> {
  readonly url: string;
  readonly scope: Scope;
  readonly schema: Readonly<Record<string, unknown>>;
  /** Whether to upgrade at all: what it throws is answered as a problem, before there is a WebSocket. */
  readonly admit: (request: Request) => void;
  /** Serves the peer until it or its work ends. What it throws is told to the peer as an `error` frame. */
  readonly serve: (peer: Peer, request: Request, signal: AbortSignal) => Promise<void>;
}

export function socketRoute<Request extends FastifyRequest>(
  app: App,
  closing: AbortSignal,
  route: SocketRoute<Request>,
): void {
  const refuse: RouteHandlerMethod = (request) => {
    throw new AleError("upgrade-required", `${request.routeOptions.url} is a WebSocket`, {
      next: "connect to it with a WebSocket client",
    });
  };
  app.route({
    method: "GET",
    url: route.url,
    exposeHeadRoute: false,
    config: { scope: route.scope },
    schema: { ...route.schema, answers: "websocket" },
    preHandler: async (request) => {
      if (request.ws) route.admit(request as unknown as Request);
    },
    handler: refuse as never,
    wsHandler: (socket, request) => {
      const peer = new Peer(socket);
      void serve(peer, request as unknown as Request, closing, route).finally(() =>
        app.audited(request as unknown as FastifyRequest, 101),
      );
    },
  });
}

async function serve<Request extends FastifyRequest>(
  peer: Peer,
  request: Request,
  closing: AbortSignal,
  route: SocketRoute<Request>,
): Promise<void> {
  const signal = AbortSignal.any([peer.closed, closing]);
  try {
    await route.serve(peer, request, signal);
    peer.close();
  } catch (thrown) {
    const { error, issues } = errorOf(thrown);
    if (isFault(error)) request.server.faulty(route.url, error.cause);
    await peer.send(JSON.stringify({ type: "error", problem: problemOf(error, issues) }));
    peer.close(4000, error.code);
  }
}
