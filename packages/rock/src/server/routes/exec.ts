import { z } from "zod";
import type { RunRequest, StartRequest } from "../../port/process.ts";
import type { Sandbox } from "../../port/sandbox.ts";
import { ExecBody, ExecEventsBody, ExecView, SandboxParams, TerminalQuery } from "../../wire/schemas.ts";
import type { App, AppContext } from "../app.ts";
import { firstFrame, streamProgram } from "../program-stream.ts";
import { socketRoute } from "../socket-route.ts";
import { EventQueue, gone, type ServerEvent, sendEvents } from "../streams.ts";
import { problems } from "./responses.ts";

/** Programs of the native API: collected, as events, as a stream in both directions, in a terminal. */

const tags = ["programs"];
/** The login shell where there is bash, and the one that every image with a shell has. */
const LOGIN_SHELL = [
  "/bin/sh",
  "-c",
  "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi",
];

export function execRoutes(app: App, context: AppContext): void {
  const { service, closing } = context;

  app.post(
    "/sandboxes/:sandboxId/exec",
    {
      config: { scope: "exec" },
      schema: {
        tags,
        summary: "Run a program and collect its output",
        params: SandboxParams,
        body: ExecBody,
        response: { 200: ExecView, ...problems },
      },
    },
    async (request, reply) => {
      const { stdinBase64, ...body } = request.body;
      request.note({ argv: body.argv });
      const sandbox = await service.use(request.caller.tenant, request.params.sandboxId);
      const stdin = stdinBase64 === undefined ? body.stdin : Buffer.from(stdinBase64, "base64");
      const run = { ...body, ...(stdin === undefined ? {} : { stdin }) } as RunRequest;
      return sandbox.exec(run, gone(request, reply, closing));
    },
  );

  app.post(
    "/sandboxes/:sandboxId/kill-processes",
    {
      config: { scope: "exec" },
      schema: {
        tags,
        summary: "End every process of the sandbox except its first",
        params: SandboxParams,
        response: { 204: z.null(), ...problems },
      },
    },
    async (request, reply) => {
      await (await service.use(request.caller.tenant, request.params.sandboxId)).killAgentProcesses();
      return reply.code(204).send(null);
    },
  );

  app.post(
    "/sandboxes/:sandboxId/exec/events",
    {
      config: { scope: "exec" },
      schema: {
        tags,
        summary: "Run a program and read its output as server-sent events",
        description:
          "Events: `started` {id, pid}, `stdout` and `stderr` (a text, or base64), `exit` {exitCode, signal, reason}, `error` (a problem).",
        answers: "text/event-stream",
        params: SandboxParams,
        body: ExecEventsBody,
        response: problems,
      },
    },
    async (request, reply) => {
      const { base64, ...body } = request.body;
      request.note({ argv: body.argv });
      const sandbox = await service.use(request.caller.tenant, request.params.sandboxId);
      const signal = gone(request, reply, closing);
      return sendEvents(reply, programEvents(sandbox, body as StartRequest, base64, signal));
    },
  );

  socketRoute(app, closing, {
    url: "/sandboxes/:sandboxId/exec/stream",
    scope: "exec",
    schema: {
      tags,
      summary: "WebSocket: run a program with its stdin, stdout, stderr, signals and terminal size",
      description:
        "The first text frame is `{type:'start', argv, …}`; then `{type:'stdin-close'}`, `{type:'signal', signal}`, `{type:'resize', cols, rows}`; binary frames are stdin. The server answers with the text frames `started`, `stdin-closed`, `exit`, `error`, and binary frames: one byte (1 stdout, 2 stderr), then the output. The program ends with the connection.",
      params: SandboxParams,
      response: problems,
    },
    admit: (request) => {
      service.get(request.caller.tenant, (request.params as { sandboxId: string }).sandboxId);
    },
    serve: async (peer, request, signal) => {
      const messages = peer[Symbol.asyncIterator]();
      const { sandboxId } = request.params as { sandboxId: string };
      const sandbox = await service.use(request.caller.tenant, sandboxId, signal);
      const start = await firstFrame(messages);
      request.note({ argv: start.argv });
      await streamProgram(peer, messages, sandbox, start, signal);
    },
  });

  socketRoute(app, closing, {
    url: "/sandboxes/:sandboxId/terminal",
    scope: "exec",
    schema: {
      tags,
      summary: "WebSocket: a login shell in a terminal",
      description: "Frames as of exec/stream, without the start frame.",
      params: SandboxParams,
      querystring: TerminalQuery,
      response: problems,
    },
    admit: (request) => {
      service.get(request.caller.tenant, (request.params as { sandboxId: string }).sandboxId);
    },
    serve: async (peer, request, signal) => {
      const messages = peer[Symbol.asyncIterator]();
      const { sandboxId } = request.params as { sandboxId: string };
      const { cols, rows, ...rest } = request.query as { cols: number; rows: number };
      const sandbox = await service.use(request.caller.tenant, sandboxId, signal);
      const env = { TERM: "xterm-256color" };
      const timeoutMs = sandbox.spec.limits.lifetimeMs;
      const start = { argv: LOGIN_SHELL, tty: { cols, rows }, stdin: true, env, timeoutMs, ...rest };
      request.note({ argv: start.argv });
      await streamProgram(peer, messages, sandbox, start, signal);
    },
  });
}

async function* programEvents(
  sandbox: Sandbox,
  request: StartRequest,
  base64: boolean,
  signal: AbortSignal,
): AsyncGenerator<ServerEvent> {
  const program = await sandbox.start(request, signal);
  const kill = (): void => void program.signal("SIGKILL").catch(() => undefined);
  signal.addEventListener("abort", kill, { once: true });
  const queue = new EventQueue();
  const pump = async (event: string, output: AsyncIterable<Uint8Array>): Promise<void> => {
    const text = textOf(base64);
    for await (const chunk of output) if (!(await queue.push({ event, data: text(chunk) }))) return;
    const rest = text();
    if (rest !== "") await queue.push({ event, data: rest });
  };
  const pumped = Promise.all([pump("stdout", program.stdout), pump("stderr", program.stderr)]);
  void pumped.catch(() => undefined).then(() => queue.end());
  try {
    yield { event: "started", data: { id: program.id, pid: program.pid } };
    yield* queue;
    await pumped;
    yield { event: "exit", data: await program.exit };
  } finally {
    signal.removeEventListener("abort", kill);
    kill();
  }
}

/** Bytes as text that does not break characters in two, or as base64. Called without bytes it gives what is left. */
export function textOf(base64: boolean): (chunk?: Uint8Array) => string {
  if (base64) return (chunk) => Buffer.from(chunk ?? []).toString("base64");
  const decoder = new TextDecoder();
  return (chunk) => (chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true }));
}
