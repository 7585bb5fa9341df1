import { randomBytes } from "node:crypto";
import { AleError } from "@ale/core";
import type { Reply } from "../inside/control.ts";
import { Outflow } from "../inside/flow.ts";
import { render } from "../inside/output.ts";
import type { Connection, ExecResult, Process, RunRequest, StartRequest } from "../port/process.ts";
import type { SandboxSpec } from "../port/sandbox.ts";
import type { Session, SessionOptions } from "../port/session.ts";
import { connectTo } from "./connection.ts";
import { gone, type Inhabited, type InitClient, reasonOf, refuseNul } from "./init-client.ts";
import { startProcess } from "./oci-process.ts";
import { keptBytes, OciSession, openShell } from "./oci-session.ts";
import { identityField, type Settings, type SettingsRequest } from "./settings.ts";
import type { ShellState } from "./shell-state.ts";

/** What runs in a sandbox, asked of its PID 1: the same for every driver, whatever holds the sandbox's files. */

const DEFAULT_SHELL = "default";
const PROMPT_MS = 10_000;
/** What of a program's input travels with the request; the rest follows as the program reads it. */
const STDIN_WITH_REQUEST_BYTES = 64 * 1024;

export class Programs {
  readonly shell: OciSession;
  readonly #client: InitClient;
  readonly #spec: SandboxSpec;
  readonly #settings: (request: SettingsRequest) => Settings;
  readonly #sessions = new Map<string, OciSession>();

  /** `settings` throws an AleError where the sandbox has no such user. `states`: sessions to begin with, as they were elsewhere. */
  constructor(
    client: InitClient,
    spec: SandboxSpec,
    settings: (request: SettingsRequest) => Settings,
    states: readonly ShellState[] = [],
  ) {
    this.#client = client;
    this.#spec = spec;
    this.#settings = settings;
    this.shell = this.#session(DEFAULT_SHELL, {});
    for (const { id, user } of states)
      if (id !== DEFAULT_SHELL) this.#session(id, user === undefined ? {} : { user });
    this.#begin(states);
  }

  #session(id: string, options: SessionOptions, known = false): OciSession {
    const onClosed = (): void => void this.#sessions.delete(id);
    const { limits } = this.#spec;
    const record = { id, options, limits, settings: this.#settings, known, onClosed };
    const session = new OciSession(this.#client, record);
    this.#sessions.set(id, session);
    return session;
  }

  #begin(states: readonly ShellState[]): void {
    for (const session of this.#sessions.values()) session.begin(states.find(({ id }) => id === session.id));
  }

  /** One of the open sessions, the first among them. */
  session(id: string): Session | undefined {
    return this.#sessions.get(id);
  }

  /** What the sessions are, those in which something runs excepted. To be asked before the container ends. */
  async captureShells(): Promise<readonly ShellState[]> {
    const captures = [...this.#sessions.values()].map((session) => session.capture());
    return (await Promise.all(captures)).filter((state) => state !== undefined);
  }

  /** The sandbox goes on in another container. Sessions without a state begin anew. */
  resume(container: Inhabited, states: readonly ShellState[]): void {
    this.#client.replace(container);
    this.#begin(states);
  }

  async openSession(options: SessionOptions = {}, signal?: AbortSignal): Promise<Session> {
    signal?.throwIfAborted();
    const id = randomBytes(6).toString("hex");
    if (this.#client.settled !== undefined) await this.#client.settled;
    await openShell(this.#client, id, this.#settings(options), signal);
    return this.#session(id, options, true);
  }

  async exec(request: RunRequest, signal?: AbortSignal): Promise<ExecResult> {
    const startedAt = performance.now();
    const { argv, timeoutMs = this.#spec.limits.execTimeoutMs } = request;
    if (this.#client.settled !== undefined) await this.#client.settled;
    const settings = this.#settings(request);
    const environment = Object.entries(settings.env).flat();
    if (argv.length === 0) throw new AleError("argv-empty", "exec was given no program to run");
    refuseNul([...argv, settings.cwd, ...environment]);
    const limit = keptBytes(this.#spec.limits);
    const { fields, ...feeding } = this.#stdin(request.stdin);
    const reply = await this.#client.request(
      "run",
      [
        "collect",
        identityField(settings),
        settings.cwd,
        timeoutMs,
        limit,
        ...fields,
        "",
        argv.length,
        ...argv,
        ...environment,
      ],
      { timeoutMs, signal, ...feeding },
    );
    return resultOf(reply, limit, performance.now() - startedAt);
  }

  /** A short input travels with the request, a long one follows as it is read. */
  #stdin(stdin: string | Uint8Array = ""): {
    readonly fields: readonly [string, string | Uint8Array];
    readonly onId?: (id: string) => void;
    readonly onFrame?: (type: string, fields: readonly Buffer[]) => void;
  } {
    const bytes = typeof stdin === "string" ? Buffer.from(stdin) : stdin;
    if (bytes.length === 0) return { fields: ["none", ""] };
    if (bytes.length <= STDIN_WITH_REQUEST_BYTES) return { fields: ["given", bytes] };
    let id = "";
    const flow = new Outflow((part, last) => this.#client.send("write", id, part, last ? 1 : 0));
    return {
      fields: ["open", ""],
      onId: (fresh) => {
        id = fresh;
        // A program need not read its input.
        flow.write(bytes).catch(() => {});
        flow.close();
      },
      onFrame: (type, [count]) => {
        if (type === "taken") flow.taken(Number(count));
        else if (type === "deaf") flow.deaf();
      },
    };
  }

  async start(request: StartRequest, signal?: AbortSignal): Promise<Process> {
    const { timeoutMs = this.#spec.limits.execTimeoutMs } = request;
    const settings = this.#settings({ ...request, terminal: request.tty !== undefined });
    if (this.#client.settled !== undefined) await this.#client.settled;
    return startProcess(this.#client, this.#client.container.id, { request, settings, timeoutMs }, signal);
  }

  async connect(port: number, signal?: AbortSignal): Promise<Connection> {
    if (this.#client.settled !== undefined) await this.#client.settled;
    return connectTo(this.#client, this.#client.container.id, port, signal);
  }

  async killAgentProcesses(): Promise<void> {
    const reply = await this.#client.request("killall", [], { timeoutMs: PROMPT_MS });
    if (reply.type !== "ok") throw gone(this.#client.container.id);
  }
}

const NOT_RUN = {
  exitCode: null,
  stdout: "",
  stderr: "",
  outputBytes: 0,
  truncated: false,
  timedOut: false,
} as const;

function resultOf(reply: Reply, limit: number, durationMs: number): ExecResult {
  if (reply.type !== "done") return { ...NOT_RUN, stderr: reasonOf(reply), durationMs };
  const stdout = render(reply.out, limit);
  const stderr = render(reply.err, limit);
  return {
    exitCode: reply.killed === "" ? reply.status : null,
    stdout: stdout.text,
    stderr: stderr.text,
    outputBytes: reply.out.total + reply.err.total,
    truncated: stdout.truncated || stderr.truncated,
    timedOut: reply.killed === "timeout",
    durationMs,
  };
}
