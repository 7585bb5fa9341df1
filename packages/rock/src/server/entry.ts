import { AleError } from "@ale/core";
import type { Sandbox } from "../port/sandbox.ts";
import type { SandboxRecord, SandboxState } from "./record.ts";
import { SessionRegistry } from "./session-registry.ts";

/** One sandbox of the server while the server lives: its record, the running sandbox, who waits for it, and what is being done to it. */
export class Entry {
  #record: SandboxRecord;
  #sandbox: Sandbox | undefined;
  #sessions: SessionRegistry | undefined;
  #work: { readonly abort: AbortController; readonly done: Promise<void> } | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #watchers = new Set<() => void>();
  /** A request is ending it: its end is then that request's to record. */
  ending = false;

  constructor(record: SandboxRecord) {
    this.#record = record;
  }

  get record(): SandboxRecord {
    return this.#record;
  }

  set record(record: SandboxRecord) {
    this.#record = record;
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** undefined unless it runs. */
  get sandbox(): Sandbox | undefined {
    return this.#sandbox;
  }

  set sandbox(sandbox: Sandbox | undefined) {
    this.#sandbox = sandbox;
    this.#sessions = sandbox === undefined ? undefined : new SessionRegistry(sandbox);
  }

  get sessions(): SessionRegistry | undefined {
    return this.#sessions;
  }

  /** Its coming up, in the background. `work` must not reject. */
  begin(work: (signal: AbortSignal) => Promise<void>): void {
    const abort = new AbortController();
    const done = work(abort.signal).finally(() => {
      this.#work = undefined;
    });
    this.#work = { abort, done };
  }

  /** Gives up what `begin` began and waits until nothing of it goes on. */
  async abandon(): Promise<void> {
    this.#work?.abort.abort(new AleError("cancelled", `the start of ${this.#record.id} was given up`));
    await this.#work?.done;
  }

  /** One change at a time: the next one waits, whatever becomes of this one. */
  alone<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(change);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  settled(signal?: AbortSignal): Promise<SandboxRecord> {
    return this.wait(["running", "stopped", "deleted", "failed"], undefined, signal);
  }

  wait(
    states: readonly SandboxState[],
    timeoutMs: number | undefined,
    signal?: AbortSignal,
  ): Promise<SandboxRecord> {
    signal?.throwIfAborted();
    if (states.includes(this.#record.state)) return Promise.resolve(this.#record);
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", cancel);
        this.#watchers.delete(look);
        settle();
      };
      const look = (): void => {
        if (states.includes(this.#record.state)) finish(() => resolve(this.#record));
      };
      const cancel = (): void => finish(() => reject(signal?.reason));
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => finish(() => resolve(this.#record)), timeoutMs);
      signal?.addEventListener("abort", cancel, { once: true });
      this.#watchers.add(look);
    });
  }
}
