import { AleError } from "@ale/core";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { AppPlugin } from "../../server/app.ts";
import { errorOf } from "../../server/thrown.ts";
import { statusOf } from "../../wire/problem.ts";
import { type CompatOptions, goneSignal, scopeOf, tenantOf } from "../caller.ts";
import { reasonOf } from "../rock/envelope.ts";
import type { GemRegistry } from "./registry.ts";
import { serviceHost } from "./service-host.ts";
import { GemTable } from "./table.ts";

/**
 * GEM over HTTP: the four routes of ROCK's client, a list, and the same for many games in one call. Plain JSON without an envelope; errors
 * are HTTP errors with `{ detail }`. What ROCK calls `sandbox_id` is the id of a game.
 */

const PREFIX = "/apis/v1/envs/gem";
const MAX_GAMES = 256;

const Seed = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const Id = z.string().min(1);
const Ids = z.array(Id).min(1).max(MAX_GAMES);

const Make = z.object({ env_id: z.string().min(1) });
const ResetBody = z.object({ sandbox_id: Id, seed: Seed.nullish() });
const StepBody = z.object({ sandbox_id: Id, action: z.string() });
const CloseBody = z.object({ sandbox_id: Id });

const VectorMake = Make.extend({ count: z.number().int().min(1).max(MAX_GAMES) });
const VectorReset = z.object({ sandbox_ids: Ids, seeds: z.array(Seed).nullish() });
const VectorStep = z.object({ sandbox_ids: Ids, actions: z.array(z.string()) });
const VectorClose = z.object({ sandbox_ids: Ids });

interface Call<Body> {
  readonly body: Body;
  readonly tenant: string;
  readonly signal: AbortSignal;
}

export function gemApi(registry: GemRegistry, options: CompatOptions = {}): AppPlugin {
  return (app, { service }) => {
    const table = new GemTable({ registry, hostOf: (tenant) => serviceHost(service, tenant) });
    app.addHook("onClose", () => table[Symbol.asyncDispose]());
    const post = <Schema extends z.ZodType>(
      path: string,
      schema: Schema,
      work: (call: Call<z.infer<Schema>>) => Promise<unknown>,
    ): void => {
      app.post(
        `${PREFIX}/${path}`,
        { config: { scope: scopeOf(options, "exec") }, schema: { hide: true } },
        (request, reply) => answer(options, schema, work, request, reply),
      );
    };
    single(table, post);
    vector(table, post);
  };
}

type Post = <Schema extends z.ZodType>(
  path: string,
  schema: Schema,
  work: (call: Call<z.infer<Schema>>) => Promise<unknown>,
) => void;

function single(table: GemTable, post: Post): void {
  post("make", Make, async ({ body, tenant, signal }) => ({
    sandbox_id: await table.make(tenant, body.env_id, signal),
  }));
  post("reset", ResetBody, ({ body, tenant, signal }) =>
    table.reset(tenant, body.sandbox_id, body.seed ?? undefined, signal),
  );
  post("step", StepBody, ({ body, tenant, signal }) =>
    table.step(tenant, body.sandbox_id, body.action, signal),
  );
  post("close", CloseBody, async ({ body, tenant }) => {
    await table.close(tenant, body.sandbox_id);
    return { sandbox_id: body.sandbox_id };
  });
  // ROCK needs a running sandbox to list; here the field is ignored.
  post("list", z.object({ sandbox_id: z.string().nullish() }), async () => ({
    env_id: table.registry.ids(),
  }));
}

/** One answer for each game, in order; where one fails, its `error` says why and the others are as they are. */
function vector(table: GemTable, post: Post): void {
  post("vector/make", VectorMake, async ({ body, tenant, signal }) => {
    const made = await Promise.allSettled(
      Array.from({ length: body.count }, () => table.make(tenant, body.env_id, signal)),
    );
    const ids = made.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    const failure = made.find((each) => each.status === "rejected");
    if (failure === undefined) return { sandbox_ids: ids };
    // All or none.
    await Promise.all(ids.map((id) => table.close(tenant, id)));
    throw failure.reason;
  });
  post("vector/reset", VectorReset, async ({ body, tenant, signal }) => {
    const { sandbox_ids: ids, seeds } = body;
    sameLength("seeds", seeds ?? ids, ids);
    return {
      results: await each(ids, (id, at) => table.reset(tenant, id, seeds?.[at], signal)),
    };
  });
  post("vector/step", VectorStep, async ({ body, tenant, signal }) => {
    const { sandbox_ids: ids, actions } = body;
    sameLength("actions", actions, ids);
    return { results: await each(ids, (id, at) => table.step(tenant, id, actions[at]!, signal)) };
  });
  post("vector/close", VectorClose, async ({ body, tenant }) => {
    await Promise.all(body.sandbox_ids.map((id) => table.close(tenant, id)));
    return { sandbox_ids: body.sandbox_ids };
  });
}

function each<T extends object>(
  ids: readonly string[],
  work: (id: string, at: number) => Promise<T>,
): Promise<(T | { readonly error: string })[]> {
  const one = async (id: string, at: number): Promise<T | { readonly error: string }> => {
    try {
      return await work(id, at);
    } catch (error) {
      return { error: reasonOf(error) };
    }
  };
  return Promise.all(ids.map(one));
}

function sameLength(what: string, list: readonly unknown[], ids: readonly string[]): void {
  if (list.length !== ids.length)
    throw new AleError("request-invalid", `${list.length} ${what} for ${ids.length} sandbox_ids`);
}

async function answer<Schema extends z.ZodType>(
  options: CompatOptions,
  schema: Schema,
  work: (call: Call<z.infer<Schema>>) => Promise<unknown>,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  try {
    const parsed = schema.safeParse(request.body ?? {});
    if (!parsed.success) {
      const text = parsed.error.issues.map(({ path, message }) => `body.${path.join(".")}: ${message}`);
      throw new AleError("request-invalid", text.join("; "));
    }
    const tenant = tenantOf(options, request);
    return await work({ body: parsed.data, tenant, signal: goneSignal(reply) });
  } catch (thrown) {
    const { error } = errorOf(thrown);
    return reply.code(STATUS[error.code] ?? statusOf(error.code)).send({ detail: reasonOf(error) });
  }
}

const STATUS: Readonly<Record<string, number>> = {
  "environment-unknown": 404,
  "game-unknown": 404,
  "reset-first": 409,
  "too-many-games": 429,
};
