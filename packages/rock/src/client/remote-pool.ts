import { AleError } from "@ale/core/result";
import type { Pool, PoolOptions } from "../port/driver.ts";
import type { Sandbox } from "../port/sandbox.ts";

/** Sandboxes of one spec kept ready on a server. Owns those that were not taken. */
export class RemotePool implements Pool {
  readonly #create: (signal: AbortSignal) => Promise<Sandbox>;
  readonly #size: number;
  readonly #ready: Sandbox[] = [];
  readonly #takers: PromiseWithResolvers<Sandbox>[] = [];
  readonly #watchers: (() => void)[] = [];
  readonly #closing = new AbortController();
  readonly #coming = new Set<Promise<void>>();

  constructor(options: PoolOptions, create: (signal: AbortSignal) => Promise<Sandbox>) {
    this.#size = options.size;
    this.#create = create;
    this.#refill();
  }

  get ready(): number {
    return this.#ready.length;
  }

  async take(signal?: AbortSignal): Promise<Sandbox> {
    signal?.throwIfAborted();
    if (this.#closing.signal.aborted) throw closed();
    const ready = this.#ready.shift();
    this.#refill();
    if (ready !== undefined) return ready;
    const taker = Promise.withResolvers<Sandbox>();
    this.#takers.push(taker);
    this.#refill();
    const leave = (): void => {
      const at = this.#takers.indexOf(taker);
      if (at >= 0) this.#takers.splice(at, 1);
      taker.reject(signal?.reason);
    };
    signal?.addEventListener("abort", leave, { once: true });
    try {
      return await taker.promise;
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  filled(): Promise<void> {
    if (this.#ready.length >= this.#size) return Promise.resolve();
    return new Promise((resolve) => this.#watchers.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(closed());
    for (const taker of this.#takers.splice(0)) taker.reject(closed());
    for (const wake of this.#watchers.splice(0)) wake();
    await Promise.all(this.#coming);
    await Promise.all(this.#ready.splice(0).map((sandbox) => sandbox.destroy()));
  }

  #refill(): void {
    const wanted = this.#size + this.#takers.length - this.#ready.length - this.#coming.size;
    for (let index = 0; index < wanted && !this.#closing.signal.aborted; index++) {
      const coming = this.#one().then((came) => {
        this.#coming.delete(coming);
        // Somebody may have taken it while it still counted as coming.
        if (came) this.#refill();
      });
      this.#coming.add(coming);
    }
  }

  /** A failure is the next taker's; nobody retries until somebody takes again. */
  async #one(): Promise<boolean> {
    try {
      const sandbox = await this.#create(this.#closing.signal);
      const taker = this.#takers.shift();
      if (taker === undefined) this.#ready.push(sandbox);
      else taker.resolve(sandbox);
      if (this.#ready.length >= this.#size) for (const wake of this.#watchers.splice(0)) wake();
      return true;
    } catch (error) {
      this.#takers.shift()?.reject(error);
      return false;
    }
  }
}

const closed = (): AleError => new AleError("pool-closed", "the pool has been closed");
