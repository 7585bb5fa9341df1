import { randomBytes } from "node:crypto";
import { AleError, type Limits } from "@ale/core";
import type { Reply } from "../inside/control.ts";
import { WINDOW_BYTES } from "../inside/flow.ts";
import { render } from "../inside/output.ts";
import type { CommandOptions, Session, SessionOptions, SessionResult } from "../port/session.ts";
import { gone, type InitClient, reasonOf, refuseNul } from "./init-client.ts";
import { identityField, type Settings } from "./settings.ts";
import { MAX_STATE_BYTES, parseShellState, type ShellState } from "./shell-state.ts";

/** A bash that PID 1 keeps for us. */

/** How long PID 1 may take for what takes it no time. */
const PROMPT_MS = 10_000;
/** How long a shell may take to say what it is, or to become what it was. */
const STATE_MS = 3_000;

/** Starts a shell at once. Throws an AleError `session-failed`. */
export async function openShell(
  client: InitClient,
  id: string,
  settings: Settings,
  signal?: AbortSignal,
): Promise<void> {
  const reply = await client.request("session", shellFields(id, settings, 1), {
    timeoutMs: PROMPT_MS,
    signal,
  });
  if (reply.type === "gone") throw gone(client.container.id);
  if (reply.type === "fail")
    throw new AleError("session-failed", `no session was opened: ${reply.message}`, {
      next: "check the directory and the user, and whether the sandbox is at its process limit",
    });
}

/** Without `now` the shell starts with its first command. Throws an AleError `nul-in-command`. */
function shellFields(id: string, settings: Settings, now: 1 | ""): readonly (string | number)[] {
  const environment = Object.entries(settings.env).flat();
  refuseNul([settings.cwd, ...environment]);
  return [id, identityField(settings), settings.cwd, now, ...environment];
}

export interface SessionRecord {
  readonly id: string;
  /** With which it begins anew in another container. */
  readonly options: SessionOptions;
  readonly limits: Limits;
  /** Throws an AleError where there is no such user. */
  readonly settings: (options: SessionOptions) => Settings;
  /** PID 1 has been told of it. Default: it hears of it with the first command. */
  readonly known?: boolean;
  readonly onClosed?: () => void;
}

export class OciSession implements Session {
  readonly id: string;
  readonly options: SessionOptions;
  readonly #client: InitClient;
  readonly #limits: Limits;
  readonly #settings: (options: SessionOptions) => Settings;
  readonly #onClosed: () => void;
  #last: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  #restoring: ShellState | undefined;
  #known: boolean;

  constructor(client: InitClient, record: SessionRecord) {
    this.id = record.id;
    this.options = record.options;
    this.#client = client;
    this.#limits = record.limits;
    this.#settings = record.settings;
    this.#known = record.known ?? false;
    this.#onClosed = record.onClosed ?? (() => {});
  }

  /** Undefined where a command runs or waits, where the shell is new, and where it does not answer or says too much. */
  async capture(): Promise<ShellState | undefined> {
    if (this.#last !== undefined || this.#closed !== undefined) return undefined;
    // Nothing has run in it since it was restored.
    if (this.#restoring !== undefined || !this.#known) return this.#restoring;
    return this.#inTurn(async () => {
      const nonce = randomBytes(12).toString("hex");
      const fields = [this.id, nonce, STATE_MS, MAX_STATE_BYTES];
      const reply = await this.#client.request("capture", fields, { timeoutMs: STATE_MS, inRestart: true });
      if (reply.type !== "done" || reply.killed !== "" || reply.restarted) return undefined;
      if (reply.out.total !== reply.out.head.length) return undefined;
      return parseShellState(this.id, this.options.user, reply.out.head);
    });
  }

  /** Starts its shell before the first command, which then finds it there. What goes wrong is told to that command. */
  warm(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#known || this.#closed !== undefined) return;
      if (this.#client.settled !== undefined) await this.#client.settled;
      this.#known = true;
      const fields = shellFields(this.id, this.#settings(this.options), 1);
      await this.#client.request("session", fields, { timeoutMs: PROMPT_MS });
    });
  }

  /** Its process is gone. Its next command finds another one, which was made what it was where there is a state. */
  begin(state: ShellState | undefined): void {
    this.#known = false;
    this.#restoring = state;
  }

  /** One command at a time: the next one waits, whatever becomes of this one. */
  async run(command: string, options: CommandOptions = {}, signal?: AbortSignal): Promise<SessionResult> {
    // Before its turn: a command that only waits does not keep the session from being captured.
    if (this.#client.settled !== undefined) await this.#client.settled;
    return this.#inTurn(() => this.#run(command, options, signal));
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const previous = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    if (previous !== undefined) await previous;
    try {
      return await work();
    } finally {
      if (this.#last === promise) this.#last = undefined;
      resolve();
    }
  }

  async #run(command: string, options: CommandOptions, signal?: AbortSignal): Promise<SessionResult> {
    const startedAt = performance.now();
    refuseNul([command]);
    if (this.#closed !== undefined) throw sessionClosed(this.id);
    const { onOutput, timeoutMs = this.#limits.execTimeoutMs } = options;
    const limit = keptBytes(this.#limits);
    if (this.#restoring !== undefined) {
      const script = Buffer.from(this.#restoring.script, "latin1");
      this.#restoring = undefined;
      await this.#ask(script, { timeoutMs: STATE_MS, limit: 0 });
    }
    const reply = await this.#ask(command, { timeoutMs, limit, onOutput, signal });
    const durationMs = performance.now() - startedAt;
    if (reply.type !== "done") return { ...NOT_RUN, output: reasonOf(reply), durationMs };
    const output = render(reply.out, limit);
    const { killed, forced } = reply;
    return {
      // What ends of an interrupt ends by itself, with a status of its own.
      exitCode: killed === "" || (killed === "interrupted" && !forced) ? reply.status : null,
      output: output.text,
      outputBytes: reply.out.total,
      truncated: output.truncated,
      timedOut: killed === "timeout",
      interrupted: killed === "cancelled" || killed === "interrupted",
      shellRestarted: reply.restarted,
      durationMs,
    };
  }

  async #ask(command: string | Uint8Array, how: Asking): Promise<Reply> {
    if (this.#client.settled !== undefined) await this.#client.settled;
    if (!this.#known)
      this.#client.send("session", "", ...shellFields(this.id, this.#settings(this.options), ""));
    this.#known = true;
    const { timeoutMs, limit, onOutput, signal } = how;
    const nonce = randomBytes(12).toString("hex");
    let request = "";
    return this.#client.request(
      "shell",
      [this.id, nonce, timeoutMs, limit, onOutput ? WINDOW_BYTES : "", command],
      {
        timeoutMs,
        signal,
        onId: (id) => {
          request = id;
        },
        onFrame: (type, [name, chunk]) => {
          if (type !== "out" || chunk === undefined) return;
          this.#client.send("credit", request, String(name), chunk.length);
          onOutput?.(chunk);
        },
      },
    );
  }

  async interrupt(): Promise<void> {
    if (!this.#known) return;
    const reply = await this.#client.request("interrupt", [this.id], { timeoutMs: PROMPT_MS });
    if (reply.type === "gone") throw gone(this.#client.container.id);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    if (this.#known) await this.#client.request("close-session", [this.id], { timeoutMs: PROMPT_MS });
    this.#onClosed();
  }
}

interface Asking {
  readonly timeoutMs: number;
  readonly limit: number;
  readonly onOutput?: ((chunk: Uint8Array) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** PID 1 keeps the output until the end, in memory that is the sandbox's own. */
export const keptBytes = ({ outputBytes, memoryBytes }: Limits): number =>
  Math.min(outputBytes, Math.floor(memoryBytes / 16));

const NOT_RUN = {
  exitCode: null,
  output: "",
  outputBytes: 0,
  truncated: false,
  timedOut: false,
  interrupted: false,
  shellRestarted: false,
} as const;

function sessionClosed(id: string): AleError {
  return new AleError("session-closed", `session ${id} has been closed`, { next: "open another one" });
}
