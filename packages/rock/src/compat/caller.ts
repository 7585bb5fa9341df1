import { AleError } from "@ale/core";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Scope } from "../server/caller.ts";

/** Who calls a compatible API: the tenant of a token, or nobody where the operator has said that clients without one may call. */

export interface CompatOptions {
  /**
   * Calls without a token are served, to programs on this machine alone: some clients cannot send one. They share one tenant, which holds
   * nothing of those who have a token. Default: false.
   */
  readonly anonymous?: boolean;
}

/** No tenant of a token can be called this. */
const ANONYMOUS = "(anonymous)";

export const scopeOf = (options: CompatOptions, scope: Scope): Scope | "public" =>
  options.anonymous === true ? "public" : scope;

/** Throws an AleError `forbidden` for an anonymous call from another machine. */
export function tenantOf(options: CompatOptions, request: FastifyRequest): string {
  if (options.anonymous !== true) return request.caller.tenant;
  if (/^(::ffff:)?127\.|^::1$/.test(request.socket.remoteAddress ?? "")) return ANONYMOUS;
  throw new AleError("forbidden", "calls without a token are served to programs on this machine alone", {
    next: "start the server without anonymous calls and send a token",
  });
}

/** Aborted when the client has gone before it had its answer. */
export function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) gone.abort(new AleError("cancelled", "the client has gone"));
  });
  return gone.signal;
}
