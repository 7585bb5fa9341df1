import { AleError } from "@ale/core";
import type { ControlChannel, Listener, Reply } from "../inside/control.ts";
import type { Activity } from "../life/activity.ts";
import { LONGEST_TIMER_MS } from "../life/deadlines.ts";
import type { EndReason } from "../port/sandbox.ts";

/** The driver's side of what a sandbox asks of its PID 1. One that no longer answers ends the sandbox. */

/** How much longer than its own deadline a command may take until the sandbox itself is given up. */
const OVERDUE_MS = 5_000;
const LAST_CALL_MS = 1_000;

type Fields = readonly (string | Uint8Array | number)[];

export interface RequestOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Under which PID 1 knows it. */
  readonly onId?: (id: string) => void;
  /** What comes before the reply. */
  readonly onFrame?: (type: string, fields: readonly Buffer[]) => void;
  /** Part of a restart, therefore does not wait for its end. */
  readonly inRestart?: boolean;
}

/** What a driver's container has for the client of its PID 1, whatever runs it. */
export interface Inhabited {
  readonly id: string;
  readonly control: ControlChannel;
  readonly activity: Activity;
  /** Takes in who has read what so far. */
  readonly reads: { collect(): void };
  /** Undefined unless a restart is under way; then resolves with its end. */
  readonly settled?: Promise<void> | undefined;
  /** None of its processes runs. */
  readonly frozen?: boolean;
  destroy(reason?: EndReason): Promise<void>;
}

export class InitClient {
  #container: Inhabited;

  constructor(container: Inhabited) {
    this.#container = container;
  }

  /** The sandbox lives on in another container: what is asked from now on is asked there. */
  replace(container: Inhabited): void {
    this.#container = container;
  }

  get container(): Inhabited {
    return this.#container;
  }

  /** Undefined unless a restart is under way. Awaited only then, so that requests are sent in the order in which they are made. */
  get settled(): Promise<void> | undefined {
    return this.#container.settled;
  }

  send(type: string, ...fields: Fields): void {
    this.#container.control.send(type, ...fields);
  }

  /** PID 1 enforces the deadline; should it not answer at all, the sandbox is ended from outside. Aborting cancels. */
  async request(type: string, fields: Fields, options: RequestOptions): Promise<Reply> {
    const container = this.#container;
    const { signal, timeoutMs, onFrame } = options;
    if (options.inRestart !== true && container.settled !== undefined) await container.settled;
    signal?.throwIfAborted();
    if (container.frozen === true) throw frozen(container.id);
    let id = "";
    const cancel = (): void => container.control.send("cancel", id);
    const overdue = giveUpAfter(container, timeoutMs + OVERDUE_MS);
    using _busy = container.activity.begin();
    const onId = (fresh: string): void => {
      id = fresh;
      options.onId?.(fresh);
    };
    try {
      const reply = container.control.request(type, fields, onId, onFrame);
      signal?.addEventListener("abort", cancel, { once: true });
      const answer = await reply;
      if (answer.type === "done") container.activity.addOutput(answer.out.total + answer.err.total);
      return answer;
    } finally {
      overdue.cancel();
      container.reads.collect();
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** Begins a conversation that lasts longer than a reply. The sandbox counts as busy until it is over. */
  converse(type: string, fields: Fields, listener: Listener): string {
    const container = this.#container;
    if (container.frozen === true) throw frozen(container.id);
    const busy = container.activity.begin();
    const over = (): void => {
      busy[Symbol.dispose]();
      container.reads.collect();
    };
    return container.control.converse(type, fields, {
      hear: (kind, rest) => {
        const last = listener.hear(kind, rest);
        if (last) over();
        return last;
      },
      gone: () => {
        over();
        listener.gone();
      },
    });
  }

  /** Ends the sandbox, unless its PID 1 still answers. */
  async probe(): Promise<void> {
    const container = this.#container;
    const overdue = giveUpAfter(container, OVERDUE_MS);
    await container.control.request("ping", []);
    overdue.cancel();
  }
}

/** In two steps: after the first, an answer that waited for a busy event loop is still heard. A frozen sandbox cannot answer. */
function giveUpAfter(container: Inhabited, ms: number): { cancel(): void } {
  const lastCall = (): void => {
    if (container.frozen === true) timer = setTimeout(lastCall, OVERDUE_MS);
    else timer = setTimeout(end, LAST_CALL_MS);
  };
  const end = (): void => {
    if (container.frozen === true) lastCall();
    else void container.destroy("unresponsive");
  };
  let timer = setTimeout(lastCall, Math.min(ms, LONGEST_TIMER_MS));
  return { cancel: () => clearTimeout(timer) };
}

export function frozen(id: string): AleError {
  return new AleError("sandbox-frozen", `sandbox ${id} is frozen: none of its processes runs`, {
    next: "thaw it first, or take a snapshot of it with `processes: keep`",
  });
}

export function gone(id: string): AleError {
  return new AleError("sandbox-gone", `sandbox ${id} has ended`, { next: "create a new sandbox" });
}

export function reasonOf(reply: Exclude<Reply, { type: "done" }>): string {
  return reply.type === "fail" ? reply.message : "the sandbox has ended";
}

/** A program's arguments and a shell's text end at the first NUL: what would follow is refused, not dropped. */
export function refuseNul(texts: readonly string[]): void {
  if (texts.some((text) => text.includes("\0")))
    throw new AleError(
      "nul-in-command",
      "a command, argument or environment variable holds a NUL character",
      { next: "remove it; pass binary data through a file or stdin" },
    );
}
