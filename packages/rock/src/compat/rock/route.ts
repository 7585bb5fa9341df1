import type { FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import type { App } from "../../server/app.ts";
import type { Scope } from "../../server/caller.ts";
import { goneSignal, scopeOf, tenantOf } from "../caller.ts";
import type { RockContext } from "./context.ts";
import { type Envelope, failed, invalid, success } from "./envelope.ts";
import { faultsOf } from "./requests.ts";

/** How every route of ROCK's sandbox API is put up: parse, do, wrap in the envelope. */

export const PREFIX = "/apis/envs/sandbox/v1";

export interface RouteOptions<Schema extends z.ZodType> {
  readonly method: "GET" | "POST";
  /** Below the prefix. */
  readonly path: string;
  readonly scope: Scope;
  /** ROCK's name of a failure, e.g. "execute command failed"; null where it has none. */
  readonly failure: string | null;
  /** Of the body, or of the query of a GET. */
  readonly schema: Schema;
  readonly bodyBytes?: number;
}

export interface Call<Request> {
  readonly input: Request;
  readonly tenant: string;
  readonly request: FastifyRequest;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
}

/** An answer that is an envelope already. */
export class Answer {
  readonly envelope: Envelope;

  constructor(envelope: Envelope) {
    this.envelope = envelope;
  }
}

export function route<Schema extends z.ZodType>(
  app: App,
  context: RockContext,
  options: RouteOptions<Schema>,
  handle: (call: Call<z.infer<Schema>>) => Promise<unknown>,
): void {
  const { method, path, scope, failure, schema, bodyBytes } = options;
  const part = method === "GET" ? "query" : "body";
  app.route({
    method,
    url: `${PREFIX}${path}`,
    config: { scope: scopeOf(context.options, scope) },
    schema: { hide: true },
    ...(bodyBytes === undefined ? {} : { bodyLimit: bodyBytes }),
    handler: async (request, reply) => {
      const parsed = schema.safeParse((part === "body" ? request.body : request.query) ?? {});
      if (!parsed.success) return invalid(faultsOf(parsed.error, part));
      return enveloped(failure, () => {
        noteSandbox(request, parsed.data);
        const tenant = tenantOf(context.options, request);
        return handle({ input: parsed.data, tenant, request, signal: goneSignal(reply) });
      });
    },
  });
}

/** For routes whose input lies in the path. */
export function pathRoute(
  app: App,
  context: RockContext,
  options: Omit<RouteOptions<z.ZodType>, "schema">,
  handle: (call: Call<{ readonly sandbox_id: string }>) => Promise<unknown>,
): void {
  const { method, path, scope, failure } = options;
  app.route<{ Params: { sandboxId: string } }>({
    method,
    url: `${PREFIX}${path}`,
    config: { scope: scopeOf(context.options, scope) },
    schema: { hide: true },
    handler: async (request: FastifyRequest<{ Params: { sandboxId: string } }>, reply: FastifyReply) =>
      enveloped(failure, () => {
        const input = { sandbox_id: request.params.sandboxId };
        const tenant = tenantOf(context.options, request as FastifyRequest);
        return handle({ input, tenant, request: request as FastifyRequest, signal: goneSignal(reply) });
      }),
  });
}

export async function enveloped(failure: string | null, work: () => Promise<unknown>): Promise<Envelope> {
  try {
    const result = await work();
    return result instanceof Answer ? result.envelope : success(result);
  } catch (error) {
    return failed(failure, error);
  }
}

function noteSandbox(request: FastifyRequest, input: unknown): void {
  const { sandbox_id: sandbox } = (input ?? {}) as { sandbox_id?: unknown };
  if (typeof sandbox === "string") request.note({ sandbox: sandbox.slice(0, 64) });
}
