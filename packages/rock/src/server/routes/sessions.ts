import { z } from "zod";
import type { SessionOptions } from "../../port/session.ts";
import {
  SandboxParams,
  SessionList,
  SessionOpen,
  SessionParams,
  SessionResultView,
  SessionRun,
  SessionView,
} from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import { EventQueue, gone, sendEvents } from "../streams.ts";
import { textOf } from "./exec.ts";
import { problems } from "./responses.ts";

/** Long-lived shells of the native API. `default` is always open. */

const tags = ["sessions"];
const MOST_WAITING = 1_024;

export function sessionRoutes(app: App, context: AppContext): void {
  const { service, closing } = context;

  app.get(
    "/sandboxes/:sandboxId/sessions",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "List the open sessions",
        params: SandboxParams,
        response: { 200: SessionList, ...problems },
      },
    },
    async (request) => {
      const sessions = await service.sessions(request.caller.tenant, request.params.sandboxId);
      return { sessions: sessions.names().map((name) => ({ name })) };
    },
  );

  app.post(
    "/sandboxes/:sandboxId/sessions",
    {
      config: { scope: "exec" },
      schema: {
        tags,
        summary: "Open a session",
        params: SandboxParams,
        body: SessionOpen,
        response: { 201: SessionView, ...problems },
      },
    },
    async (request, reply) => {
      const sessions = await service.sessions(request.caller.tenant, request.params.sandboxId);
      const options = request.body as SessionOptions;
      const { name } = await sessions.open(options, gone(request, reply, closing));
      return reply.code(201).send({ name });
    },
  );

  app.post(
    "/sandboxes/:sandboxId/sessions/:session/run",
    {
      config: { scope: "exec" },
      schema: {
        tags,
        summary: "Run a command in a session",
        description:
          "With `Accept: text/event-stream`: events `output` (a text, or base64) as it comes, `dropped` {bytes} where the reader was too slow, then `result`. Leaving interrupts the command.",
        params: SessionParams,
        body: SessionRun,
        response: { 200: SessionResultView, ...problems },
      },
    },
    async (request, reply) => {
      const { command, timeoutMs, base64 } = request.body;
      const { sandboxId, session: name } = request.params;
      request.note({ argv: [command] });
      const session = (await service.sessions(request.caller.tenant, sandboxId)).get(name);
      const options = timeoutMs === undefined ? {} : { timeoutMs };
      const signal = gone(request, reply, closing);
      if (!request.headers.accept?.includes("text/event-stream"))
        return session.run(command, options, signal);
      const queue = new EventQueue();
      const text = textOf(base64);
      let dropped = 0;
      const onOutput = (chunk: Uint8Array): void => {
        // A command in a shell does not wait for its reader: what a slow one misses is counted.
        if (queue.waiting > MOST_WAITING) dropped += chunk.length;
        else void queue.push({ event: "output", data: text(chunk) });
      };
      void session.run(command, { ...options, onOutput }, signal).then(
        async (result) => {
          const rest = text();
          if (rest !== "") await queue.push({ event: "output", data: rest });
          if (dropped > 0) await queue.push({ event: "dropped", data: { bytes: dropped } });
          await queue.push({ event: "result", data: result });
          queue.end();
        },
        (error: unknown) => queue.fail(error),
      );
      return sendEvents(reply, queue);
    },
  );

  app.post(
    "/sandboxes/:sandboxId/sessions/:session/interrupt",
    {
      config: { scope: "exec" },
      schema: {
        tags,
        summary: "Ctrl-C: end the command that runs",
        params: SessionParams,
        response: { 204: z.null(), ...problems },
      },
    },
    async (request, reply) => {
      const { sandboxId, session } = request.params;
      await (await service.sessions(request.caller.tenant, sandboxId)).get(session).interrupt();
      return reply.code(204).send(null);
    },
  );

  app.delete(
    "/sandboxes/:sandboxId/sessions/:session",
    {
      config: { scope: "exec" },
      schema: {
        tags,
        summary: "Close a session",
        params: SessionParams,
        response: { 204: z.null(), ...problems },
      },
    },
    async (request, reply) => {
      const { sandboxId, session } = request.params;
      await (await service.sessions(request.caller.tenant, sandboxId)).close(session);
      return reply.code(204).send(null);
    },
  );
}
