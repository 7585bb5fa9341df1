import { z } from "zod";
import type { App } from "../../server/app.ts";
import type { SandboxRecord } from "../../server/record.ts";
import type { RockContext } from "./context.ts";
import { badRequest, CODES, success } from "./envelope.ts";
import { recordOf } from "./record.ts";
import { Batch, ListQuery, Warmup } from "./requests.ts";
import { Answer, pathRoute, route } from "./route.ts";
import { statusOf } from "./status.ts";

/** Many sandboxes at once, and what ROCK's deployment has and this server has not. */

export function listRoutes(app: App, context: RockContext): void {
  const { service } = context;
  const shown = (tenant: string): SandboxRecord[] => service.list(tenant, { states: ["pending", "running"] });
  route(
    app,
    context,
    {
      method: "GET",
      path: "/sandboxes",
      scope: "sandbox:read",
      failure: "list sandboxes failed",
      schema: ListQuery,
    },
    async ({ input, tenant, request }) => {
      const { page, page_size: size, ...filters } = input;
      const all = shown(tenant)
        .map((record) => ({
          ...statusOf(record, request.socket.localAddress),
          rock_authorization_encrypted: null,
        }))
        .filter((status) =>
          Object.entries(filters).every(
            ([key, value]) => String((status as Record<string, unknown>)[key]) === String(value),
          ),
        );
      const items = all.slice((page - 1) * size, page * size);
      return {
        code: CODES.ok,
        exit_code: null,
        failure_reason: null,
        items,
        total: all.length,
        has_more: page * size < all.length,
      };
    },
  );
  route(
    app,
    context,
    {
      method: "POST",
      path: "/sandboxes/batch",
      scope: "sandbox:read",
      failure: "batch get sandbox status failed",
      schema: Batch,
    },
    async ({ input, tenant, request }) => {
      const wanted = new Set(input.sandbox_ids);
      const statuses = shown(tenant)
        .filter(({ id }) => wanted.has(id))
        .map((record) => statusOf(record, request.socket.localAddress));
      return { statuses };
    },
  );
}

/** Routes of ROCK's deployment that have nothing to say here, said without alarming its clients. */
export function quietRoutes(app: App, context: RockContext): void {
  const { options } = context;
  const read = { method: "GET", scope: "sandbox:read", schema: z.unknown() } as const;
  // Without an endpoint and a bucket the SDK takes the direct way for files; anything else makes it log errors.
  const noStorage = { Expiration: "2099-01-01T00:00:00Z" };
  route(
    app,
    context,
    { ...read, path: "/get_token", failure: "get oss sts token failed" },
    async () => noStorage,
  );
  route(app, context, { ...read, path: "/get_nacos_config", failure: null }, async () => ({}));
  pathRoute(
    app,
    context,
    { method: "GET", path: "/sandboxes/:sandboxId/mount-infos", scope: "sandbox:read", failure: null },
    async ({ input, tenant }) => {
      recordOf(context, tenant, input.sandbox_id);
      return [];
    },
  );
  route(
    app,
    context,
    {
      method: "POST",
      path: "/warmup/tasks",
      scope: "image",
      failure: "start warmup failed",
      schema: Warmup,
    },
    async ({ input }) => {
      if (options.warmup === undefined)
        throw badRequest("This server pulls no images: bring them to it beforehand");
      void options.warmup(input.image).catch(() => undefined);
      return new Answer(success(null, "warmup task started"));
    },
  );
}
