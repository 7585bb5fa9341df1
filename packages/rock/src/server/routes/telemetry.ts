import { z } from "zod";
import type { Sandbox } from "../../port/sandbox.ts";
import { DrainBody, SandboxParams, TelemetryQuery } from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import { gone, sendEvents } from "../streams.ts";
import { TelemetryFeed } from "../telemetry-feed.ts";
import { problems } from "./responses.ts";

/** What is seen of a sandbox, as it happens, and the stopping of its processes where that is not to go on. */

const tags = ["telemetry"];

export function telemetryRoutes(app: App, { service, closing }: AppContext): void {
  const feeds = new Map<string, { readonly feed: TelemetryFeed; readonly sandbox: Sandbox }>();
  closing.addEventListener("abort", () => {
    for (const { feed } of feeds.values()) feed.close();
  });

  /** One for all readers of a sandbox, from its first reader on until nobody has read for a while, or it has ended. */
  const feedOf = (key: string, id: string, sandbox: Sandbox): TelemetryFeed => {
    const known = feeds.get(key);
    // Under the same name, it may have been started again.
    if (known?.sandbox === sandbox) return known.feed;
    const feed = new TelemetryFeed({
      listen: (tell) => sandbox.onTelemetry((record) => tell({ ...record, sandbox: id })),
      onUnused: () => {
        if (feeds.get(key)?.feed === feed) feeds.delete(key);
      },
    });
    feeds.set(key, { feed, sandbox });
    void sandbox.ended.then(async (reason) => {
      await sandbox.drainTelemetry();
      feed.end({ reason });
    });
    return feed;
  };

  app.get(
    "/sandboxes/:sandboxId/telemetry",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "What happens in and around the sandbox, as server-sent events",
        description:
          "Events: `listening` {cursor} first, `record` (a telemetry record of version 1; its `id` is the cursor after it), `missed` {records}, `drained` {token}, `end` {reason}, `error` (a problem). Who lost the connection asks again with `after`: what came meanwhile follows, or `missed` says how many records are gone (null: nobody knows).",
        answers: "text/event-stream",
        params: SandboxParams,
        querystring: TelemetryQuery,
        response: problems,
      },
    },
    async (request, reply) => {
      const { caller, params, query } = request;
      const sandbox = await service.use(caller.tenant, params.sandboxId);
      const key = `${caller.tenant} ${params.sandboxId}`;
      const reader = feedOf(key, params.sandboxId, sandbox).join(query.after);
      const signal = gone(request, reply, closing);
      signal.addEventListener("abort", () => reader.end(), { once: true });
      return sendEvents(reply, reader.events());
    },
  );

  app.post(
    "/sandboxes/:sandboxId/telemetry/drain",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "Wait until everything that happened before was told",
        description: "Readers of the sandbox's telemetry then get an event `drained` with the token.",
        params: SandboxParams,
        body: DrainBody,
        response: { 204: z.null(), ...problems },
      },
    },
    async ({ caller, params, body }, reply) => {
      const sandbox = await service.use(caller.tenant, params.sandboxId);
      await sandbox.drainTelemetry();
      feeds.get(`${caller.tenant} ${params.sandboxId}`)?.feed.drained(body.token);
      return reply.code(204).send(null);
    },
  );

  for (const [verb, summary] of [
    ["freeze", "Stop every process of the sandbox where it is"],
    ["thaw", "Let a frozen sandbox go on"],
  ] as const)
    app.post(
      `/sandboxes/:sandboxId/${verb}`,
      {
        config: { scope: "sandbox:write" },
        schema: { tags, summary, params: SandboxParams, response: { 204: z.null(), ...problems } },
      },
      async ({ caller, params }, reply) => {
        await (await service.use(caller.tenant, params.sandboxId))[verb]();
        return reply.code(204).send(null);
      },
    );
}
