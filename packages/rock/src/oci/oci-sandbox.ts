import { randomBytes } from "node:crypto";
import { AleError, err, type Result, type SandboxFile } from "@ale/core";
import { fingerprintOf } from "../files/fingerprint.ts";
import type { Reply } from "../inside/control.ts";
import { Outflow } from "../inside/flow.ts";
import { render } from "../inside/output.ts";
import type { FileError, SandboxFiles } from "../port/files.ts";
import type { Connection, ExecResult, Process, RunRequest, StartRequest } from "../port/process.ts";
import type { EndReason, Fingerprint, Sandbox, SandboxSpec, SandboxStats } from "../port/sandbox.ts";
import type { Session, SessionOptions } from "../port/session.ts";
import type { SnapshotResult } from "../port/snapshot.ts";
import type { RunningContainer } from "./container.ts";
import { gone, InitClient, reasonOf, refuseNul } from "./init-client.ts";
import { notYet } from "./not-yet.ts";
import { startProcess } from "./oci-process.ts";
import { keptBytes, OciSession, registerShell } from "./oci-session.ts";
import { identityField, settingsFor } from "./settings.ts";

/** One sandbox as its users see it: requests to its PID 1, and files reached from outside. */

const DEFAULT_MAX_READ = 16 * 2 ** 20;
const DEFAULT_SHELL = "default";
const PROMPT_MS = 10_000;
/** What of a program's input travels with the request; the rest follows as the program reads it. */
const STDIN_WITH_REQUEST_BYTES = 64 * 1024;

export class OciSandbox implements Sandbox {
  readonly id: string;
  readonly spec: SandboxSpec;
  readonly shell: OciSession;
  readonly #container: RunningContainer;
  readonly #client: InitClient;
  readonly #sessions = new Map<string, OciSession>();

  constructor(container: RunningContainer, spec: SandboxSpec) {
    this.id = container.id;
    this.spec = spec;
    this.#container = container;
    this.#client = new InitClient(container);
    this.shell = this.#session(DEFAULT_SHELL);
    // Without waiting: it can only fail with the sandbox, and then every command says so.
    registerShell(this.#client, DEFAULT_SHELL, settingsFor(spec, {}), false).catch(() => {});
  }

  #session(id: string): OciSession {
    const session = new OciSession(id, this.#client, this.spec.limits, () => this.#sessions.delete(id));
    this.#sessions.set(id, session);
    return session;
  }

  async openSession(options: SessionOptions = {}, signal?: AbortSignal): Promise<Session> {
    signal?.throwIfAborted();
    const id = randomBytes(6).toString("hex");
    await registerShell(this.#client, id, settingsFor(this.spec, options), true, signal);
    return this.#session(id);
  }

  async exec(request: RunRequest, signal?: AbortSignal): Promise<ExecResult> {
    const startedAt = performance.now();
    const { argv, timeoutMs = this.spec.limits.execTimeoutMs } = request;
    const settings = settingsFor(this.spec, request);
    const environment = Object.entries(settings.env).flat();
    if (argv.length === 0) throw new AleError("argv-empty", "exec was given no program to run");
    refuseNul([...argv, settings.cwd, ...environment]);
    const limit = keptBytes(this.spec.limits);
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

  start(request: StartRequest, signal?: AbortSignal): Promise<Process> {
    const { timeoutMs = this.spec.limits.execTimeoutMs } = request;
    const settings = settingsFor(this.spec, { ...request, terminal: request.tty !== undefined });
    return startProcess(this.#client, this.id, { request, settings, timeoutMs }, signal);
  }

  get files(): SandboxFiles {
    throw notYet("files");
  }

  get endReason(): EndReason | undefined {
    return this.#container.endReason;
  }

  get ended(): Promise<EndReason> {
    return this.#container.whenEnded;
  }

  connect(): Promise<Connection> {
    throw notYet("connect");
  }

  async stats(): Promise<SandboxStats> {
    if (this.#container.ended) throw gone(this.id);
    return this.#container.stats();
  }

  snapshot(): Promise<SnapshotResult> {
    throw notYet("snapshot");
  }

  revert(): Promise<void> {
    throw notYet("revert");
  }

  async killAgentProcesses(): Promise<void> {
    const reply = await this.#client.request("killall", [], { timeoutMs: PROMPT_MS });
    if (reply.type !== "ok") throw gone(this.id);
  }

  async writeFiles(files: readonly SandboxFile[]): Promise<Result<void, FileError>> {
    for (const file of files) {
      if (this.#container.ended) return err({ type: "sandbox-gone", path: file.path });
      const written = this.#container.tree.write(file);
      if (!written.ok) return written;
    }
    return { ok: true, value: undefined };
  }

  async readFile(
    path: string,
    options: { readonly maxBytes?: number } = {},
  ): Promise<Result<Uint8Array, FileError>> {
    if (this.#container.ended) return err({ type: "sandbox-gone", path });
    const { tree, reads } = this.#container;
    return reads.unseen(() => tree.read(path, options.maxBytes ?? DEFAULT_MAX_READ));
  }

  async fingerprint(paths: readonly string[]): Promise<readonly Fingerprint[]> {
    if (this.#container.ended) throw gone(this.id);
    const { tree, reads } = this.#container;
    const planted = new Set(this.spec.files.map((file) => file.path));
    const found = reads.unseen(() => paths.map((path) => fingerprintOf(tree, path, planted)));
    return found.map((one) => ({ ...one, wasRead: reads.wasRead(this.id, one.path) ?? one.wasRead }));
  }

  destroy(): Promise<void> {
    return this.#container.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
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
