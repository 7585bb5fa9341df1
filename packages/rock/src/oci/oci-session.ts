import { randomBytes } from "node:crypto";
import { AleError, type Limits } from "@ale/core";
import { WINDOW_BYTES } from "../inside/flow.ts";
import { render } from "../inside/output.ts";
import type { CommandOptions, Session, SessionResult } from "../port/session.ts";
import { gone, type InitClient, reasonOf, refuseNul } from "./init-client.ts";
import { identityField, type Settings } from "./settings.ts";

/** A bash that PID 1 keeps for us. */

/** How long PID 1 may take for what takes it no time. */
const PROMPT_MS = 10_000;

/** The shell itself starts with the first command, unless `check` asks PID 1 to try now. Throws an AleError `session-failed`. */
export async function registerShell(
  client: InitClient,
  id: string,
  settings: Settings,
  check: boolean,
  signal?: AbortSignal,
): Promise<void> {
  const environment = Object.entries(settings.env).flat();
  refuseNul([settings.cwd, ...environment]);
  const fields = [id, identityField(settings), settings.cwd, check ? 1 : "", ...environment];
  const reply = await client.request("session", fields, { timeoutMs: PROMPT_MS, signal });
  if (reply.type === "gone") throw gone(client.container.id);
  if (reply.type === "fail")
    throw new AleError("session-failed", `no session was opened: ${reply.message}`, {
      next: "check the directory and the user, and whether the sandbox is at its process limit",
    });
}

export class OciSession implements Session {
  readonly id: string;
  readonly #client: InitClient;
  readonly #limits: Limits;
  readonly #onClosed: () => void;
  #last: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(id: string, client: InitClient, limits: Limits, onClosed: () => void = () => {}) {
    this.id = id;
    this.#client = client;
    this.#limits = limits;
    this.#onClosed = onClosed;
  }

  /** Nothing runs in it, and nothing waits to. */
  get idle(): boolean {
    return this.#last === undefined && this.#closed === undefined;
  }

  /** One command at a time: the next one waits, whatever becomes of this one. */
  async run(command: string, options: CommandOptions = {}, signal?: AbortSignal): Promise<SessionResult> {
    const previous = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    if (previous !== undefined) await previous;
    try {
      return await this.#run(command, options, signal);
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
    const nonce = randomBytes(12).toString("hex");
    let request = "";
    const reply = await this.#client.request(
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

  async interrupt(): Promise<void> {
    const reply = await this.#client.request("interrupt", [this.id], { timeoutMs: PROMPT_MS });
    if (reply.type === "gone") throw gone(this.#client.container.id);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#client.request("close-session", [this.id], { timeoutMs: PROMPT_MS });
    this.#onClosed();
  }
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
