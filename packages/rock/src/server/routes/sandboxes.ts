import { AleError, digestOf } from "@ale/core";
import { z } from "zod";
import type { SandboxSpec } from "../../port/sandbox.ts";
import {
  GetQuery,
  ListQuery,
  NetworkBody,
  NetworkView,
  SandboxCreate,
  SandboxList,
  SandboxParams,
  SandboxView,
  StatsView,
} from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import { allows } from "../caller.ts";
import { gone } from "../streams.ts";
import { viewOf } from "../view.ts";
import { problems } from "./responses.ts";

/** Sandboxes of the native API: made, found, waited for, stopped, deleted. */

const IdempotencyHeader = z.object({
  "idempotency-key": z
    .string()
    .min(1)
    .max(128)
    .optional()
    .describe("The same key again answers with the same sandbox."),
});

const tags = ["sandboxes"];

export function sandboxRoutes(app: App, context: AppContext): void {
  const { service, closing } = context;

  app.post(
    "/sandboxes",
    {
      config: { scope: "sandbox:write" },
      schema: {
        tags,
        summary: "Create a sandbox",
        description: "Answers at once with the state `pending`, or later where `waitMs` says so.",
        headers: IdempotencyHeader,
        body: SandboxCreate,
        response: { 201: SandboxView, ...problems },
      },
    },
    async (request, reply) => {
      const { waitMs, deleteAfterStopMs, ...spec } = request.body;
      const { tenant } = request.caller;
      const key = request.headers["idempotency-key"];
      const idempotency =
        key === undefined
          ? undefined
          : { key, digest: digestOf({ ...spec, deleteAfterStopMs: deleteAfterStopMs ?? null }) };
      const born = service.create(tenant, {
        spec: spec as SandboxSpec,
        ...(deleteAfterStopMs === undefined ? {} : { deleteAfterStopMs }),
        ...(idempotency === undefined ? {} : { idempotency }),
      });
      request.note({ sandbox: born.id });
      const signal = gone(request, reply, closing);
      const record = waitMs === 0 ? born : await service.wait(tenant, born.id, { timeoutMs: waitMs }, signal);
      return reply.code(201).header("location", `/v1/sandboxes/${born.id}`).send(viewOf(record));
    },
  );

  app.get(
    "/sandboxes",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "List sandboxes",
        querystring: ListQuery,
        response: { 200: SandboxList, ...problems },
      },
    },
    async (request) => {
      const { state, label, allTenants } = request.query;
      if (allTenants && !allows(request.caller, "admin"))
        throw new AleError("forbidden", "sandboxes of all tenants need the scope admin");
      const filter = {
        ...(state === undefined ? {} : { states: [state].flat() }),
        labels: labelsOf([label ?? []].flat()),
      };
      const tenants = allTenants ? [...service.tenants()] : [request.caller.tenant];
      return { sandboxes: tenants.flatMap((tenant) => service.list(tenant, filter)).map(viewOf) };
    },
  );

  app.get(
    "/sandboxes/:sandboxId",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "Get a sandbox, or wait for a state of it",
        params: SandboxParams,
        querystring: GetQuery,
        response: { 200: SandboxView, ...problems },
      },
    },
    async (request, reply) => {
      const { tenant } = request.caller;
      const { waitFor, timeoutMs } = request.query;
      const { sandboxId } = request.params;
      if (waitFor === undefined) return viewOf(service.get(tenant, sandboxId));
      const signal = gone(request, reply, closing);
      return viewOf(await service.wait(tenant, sandboxId, { states: [waitFor].flat(), timeoutMs }, signal));
    },
  );

  const changes = {
    stop: "End its processes and keep its files",
    restart: "Start a stopped sandbox again, with its files",
  } as const;
  for (const [change, summary] of Object.entries(changes) as [keyof typeof changes, string][])
    app.post(
      `/sandboxes/:sandboxId/${change}`,
      {
        config: { scope: "sandbox:write" },
        schema: { tags, summary, params: SandboxParams, response: { 200: SandboxView, ...problems } },
      },
      async (request) => viewOf(await service[change](request.caller.tenant, request.params.sandboxId)),
    );

  app.get(
    "/sandboxes/:sandboxId/network",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "Get the network policy, and what was used of its budgets",
        params: SandboxParams,
        response: { 200: NetworkView, ...problems },
      },
    },
    async (request) => service.networkOf(request.caller.tenant, request.params.sandboxId),
  );

  app.put(
    "/sandboxes/:sandboxId/network",
    {
      config: { scope: "sandbox:write" },
      schema: {
        tags,
        summary: "Replace the network policy of a running sandbox",
        description:
          "Holds from the next connection on. Which modes may be asked for is the server's business.",
        params: SandboxParams,
        body: NetworkBody,
        response: { 200: SandboxView, ...problems },
      },
    },
    async (request, reply) => {
      const { network, ...options } = request.body;
      const { tenant } = request.caller;
      const signal = gone(request, reply, closing);
      const { sandboxId } = request.params;
      return viewOf(await service.setNetwork(tenant, sandboxId, network, options, signal));
    },
  );

  app.delete(
    "/sandboxes/:sandboxId",
    {
      config: { scope: "sandbox:write", frees: true },
      schema: {
        tags,
        summary: "End a sandbox and delete its files",
        params: SandboxParams,
        response: { 200: SandboxView, ...problems },
      },
    },
    async (request) => viewOf(await service.delete(request.caller.tenant, request.params.sandboxId)),
  );

  app.get(
    "/sandboxes/:sandboxId/stats",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "Counters and what is used now",
        params: SandboxParams,
        response: { 200: StatsView, ...problems },
      },
    },
    async (request) => (await service.use(request.caller.tenant, request.params.sandboxId)).stats(),
  );
}

function labelsOf(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at < 1)
        throw new AleError("request-invalid", `label ${JSON.stringify(text.slice(0, 80))} is not name=value`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}
