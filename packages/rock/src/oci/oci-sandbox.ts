import { randomBytes } from "node:crypto";
import { AleError, err, type Result, type SandboxFile } from "@ale/core";
import { fingerprintOf } from "../files/fingerprint.ts";
import type { Captured, ControlChannel, Reply } from "../inside/control.ts";
import { environmentOf } from "../inside/init.ts";
import { render } from "../inside/output.ts";
import type { FileError, SandboxFiles } from "../port/files.ts";
import type { Connection, ExecResult, Process, RunRequest } from "../port/process.ts";
import type { EndReason, Fingerprint, Sandbox, SandboxSpec, SandboxStats } from "../port/sandbox.ts";
import type { Session, SessionResult } from "../port/session.ts";
import type { SnapshotResult } from "../port/snapshot.ts";
import { LONGEST_TIMER_MS, type RunningContainer } from "./container.ts";
import { notYet } from "./not-yet.ts";

/** One sandbox as its users see it: requests to its PID 1, and files reached from outside. */

const DEFAULT_MAX_READ = 16 * 2 ** 20;
/** How much longer than its own deadline a command may take until the sandbox itself is given up. */
const OVERDUE_MS = 5_000;
const LAST_CALL_MS = 1_000;

export class OciSandbox implements Sandbox {
  readonly id: string;
  readonly spec: SandboxSpec;
  readonly shell: Session;
  readonly #container: RunningContainer;
  #lastCommand: Promise<void> | undefined;

  constructor(container: RunningContainer, spec: SandboxSpec) {
    this.id = container.id;
    this.spec = spec;
    this.#container = container;
    this.shell = {
      id: "default",
      run: (command, options, signal) => this.#enqueue(command, options?.timeoutMs, signal),
      interrupt: () => Promise.reject(notYet("interrupt")),
      close: () => Promise.reject(notYet("close")),
    };
  }

  /** One command at a time: the next one waits, whatever becomes of this one. */
  async #enqueue(command: string, timeoutMs?: number, signal?: AbortSignal): Promise<SessionResult> {
    const previous = this.#lastCommand;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#lastCommand = promise;
    if (previous !== undefined) await previous;
    try {
      return await this.#runInShell(command, timeoutMs, signal);
    } finally {
      if (this.#lastCommand === promise) this.#lastCommand = undefined;
      resolve();
    }
  }

  /** PID 1 keeps the output until the end, in memory that is the sandbox's own. */
  get #outputBytes(): number {
    const { outputBytes, memoryBytes } = this.spec.limits;
    return Math.min(outputBytes, memoryBytes >> 4);
  }

  get #control(): ControlChannel {
    return this.#container.control;
  }

  async exec(request: RunRequest, signal?: AbortSignal): Promise<ExecResult> {
    const { limits, workdir, env } = this.spec;
    const startedAt = performance.now();
    const timeoutMs = request.timeoutMs ?? limits.execTimeoutMs;
    const stdin = String(request.stdin ?? "");
    const user = request.user === "root" ? "root" : "agent";
    const environment = environmentOf(user, user === "agent" ? env : {}, request.env);
    const { argv } = request;
    if (argv.length === 0) throw new AleError("argv-empty", "exec was given no program to run");
    refuseNul([...argv, request.cwd ?? "", ...Object.entries(environment).flat()]);
    const reply = await this.#request(
      "exec",
      [
        user,
        request.cwd ?? (user === "agent" ? (workdir ?? "/") : "/"),
        timeoutMs,
        this.#outputBytes,
        stdin === "" ? 0 : 1,
        stdin,
        argv.length,
        ...argv,
        ...Object.entries(environment).flat(),
      ],
      timeoutMs,
      signal,
    );
    const durationMs = performance.now() - startedAt;
    if (reply.type !== "done") return { ...NOT_RUN, stderr: reasonOf(reply), durationMs };
    const stdout = render(reply.out, this.#outputBytes);
    const stderr = render(reply.err, this.#outputBytes);
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

  async #runInShell(command: string, timeout?: number, signal?: AbortSignal): Promise<SessionResult> {
    const { limits } = this.spec;
    const startedAt = performance.now();
    const timeoutMs = timeout ?? limits.execTimeoutMs;
    refuseNul([command]);
    const nonce = randomBytes(12).toString("hex");
    const reply = await this.#request(
      "shell",
      [nonce, timeoutMs, this.#outputBytes, command],
      timeoutMs,
      signal,
    );
    const durationMs = performance.now() - startedAt;
    if (reply.type !== "done")
      return { ...NOT_RUN, output: reasonOf(reply), shellRestarted: false, durationMs };
    const output = render(reply.out, this.#outputBytes);
    return {
      exitCode: reply.killed === "" ? reply.status : null,
      output: output.text,
      outputBytes: reply.out.total,
      truncated: output.truncated,
      timedOut: reply.killed === "timeout",
      interrupted: reply.killed === "cancelled",
      shellRestarted: reply.restarted,
      durationMs,
    };
  }

  /** PID 1 enforces the deadline; should it not answer at all, the sandbox is ended from outside. */
  async #request(
    type: string,
    fields: readonly (string | number)[],
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Reply> {
    signal?.throwIfAborted();
    let id = "";
    const cancel = (): void => this.#control.send("cancel", id);
    const overdue = this.#giveUpAfter(timeoutMs + OVERDUE_MS);
    using _busy = this.#container.activity.begin();
    try {
      const reply = this.#control.request(type, fields, (fresh) => {
        id = fresh;
      });
      signal?.addEventListener("abort", cancel, { once: true });
      const answer = await reply;
      if (answer.type === "done") this.#container.activity.addOutput(answer.out.total + answer.err.total);
      return answer;
    } finally {
      overdue.cancel();
      this.#container.reads.collect();
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** In two steps: after the first, an answer that waited for a busy event loop is still heard. */
  #giveUpAfter(ms: number): { cancel(): void } {
    let timer = setTimeout(
      () => {
        timer = setTimeout(() => void this.#container.destroy("unresponsive"), LAST_CALL_MS);
      },
      Math.min(ms, LONGEST_TIMER_MS),
    );
    return { cancel: () => clearTimeout(timer) };
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

  openSession(): Promise<Session> {
    throw notYet("openSession");
  }

  start(): Promise<Process> {
    throw notYet("start");
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
    const overdue = this.#giveUpAfter(OVERDUE_MS);
    const reply = await this.#control.request("killall", []);
    overdue.cancel();
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
  output: "",
  outputBytes: 0,
  truncated: false,
  timedOut: false,
  interrupted: false,
} as const;

function reasonOf(reply: Exclude<Reply, { type: "done" }>): string {
  return reply.type === "fail" ? reply.message : "the sandbox has ended";
}

function gone(id: string): AleError {
  return new AleError("sandbox-gone", `sandbox ${id} has ended`, { next: "create a new sandbox" });
}

/** A program's arguments and a shell's text end at the first NUL: what would follow is refused, not dropped. */
function refuseNul(texts: readonly string[]): void {
  if (texts.some((text) => text.includes("\0")))
    throw new AleError(
      "nul-in-command",
      "a command, argument or environment variable holds a NUL character",
      {
        next: "remove it; pass binary data through a file or stdin",
      },
    );
}

export type { Captured };
