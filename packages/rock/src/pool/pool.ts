import { AleError } from "@ale/core";
import type { Pool } from "../port/driver.ts";
import type { Sandbox } from "../port/sandbox.ts";

/** Sandboxes kept ready, whatever makes them. Owns those that nobody has taken. */

export interface PoolSource {
  /** Made to wait: neither its lifetime nor its idle time runs. */
  create(signal: AbortSignal): Promise<Sandbox>;
  /** Told of one in the moment in which it is taken. */
  taken(sandbox: Sandbox): void;
  /** Told when the pool is closed, for its last sandbox is gone. */
  closed(): void;
}

export interface PoolLimits {
  /** Sandboxes kept ready. */
  readonly size: number;
  /** Made at the same time. */
  readonly concurrency: number;
}

interface Waiting {
  resolve(sandbox: Sandbox): void;
  reject(reason: unknown): void;
}

export class SandboxPool implements Pool {
  readonly #source: PoolSource;
  readonly #limits: PoolLimits;
  readonly #ready: Sandbox[] = [];
  readonly #creating = new Set<Promise<void>>();
  readonly #abort = new AbortController();
  #takers: Waiting[] = [];
  #watchers: { resolve(): void; reject(reason: unknown): void }[] = [];
  #closed: Promise<void> | undefined;

  constructor(source: PoolSource, limits: PoolLimits) {
    if (!Number.isSafeInteger(limits.size) || limits.size < 1)
      throw new AleError("pool-size", `a pool of ${limits.size} sandboxes`, { next: "ask for 1 or more" });
    this.#source = source;
    this.#limits = limits;
    this.#refill();
  }

  get ready(): number {
    return this.#ready.length;
  }

  /** Rejects where the next sandbox cannot be made; the next call tries again. */
  take(signal?: AbortSignal): Promise<Sandbox> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#closed !== undefined) return Promise.reject(poolClosed());
    for (let next = this.#ready.shift(); next !== undefined; next = this.#ready.shift()) {
      if (next.endReason !== undefined) continue;
      this.#refill();
      this.#source.taken(next);
      return Promise.resolve(next);
    }
    return this.#wait(signal);
  }

  #wait(signal?: AbortSignal): Promise<Sandbox> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#takers = this.#takers.filter((one) => one !== taker);
        reject(signal?.reason);
      };
      const settled = (): void => signal?.removeEventListener("abort", leave);
      const taker: Waiting = {
        resolve: (sandbox) => {
          settled();
          this.#source.taken(sandbox);
          resolve(sandbox);
        },
        reject: (reason) => {
          settled();
          reject(reason);
        },
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#takers.push(taker);
      this.#refill();
    });
  }

  filled(): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(poolClosed());
    if (this.#ready.length >= this.#limits.size) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#watchers.push({ resolve, reject });
      this.#refill();
    });
  }

  #refill(): void {
    const { size, concurrency } = this.#limits;
    const missing = (): number => size + this.#takers.length - this.#ready.length - this.#creating.size;
    while (this.#closed === undefined && missing() > 0 && this.#creating.size < concurrency) {
      const creation = this.#createOne().then((made) => {
        this.#creating.delete(creation);
        // One that cannot be made now is not tried in a circle; the next one who asks tries again.
        if (made) this.#refill();
      });
      this.#creating.add(creation);
    }
  }

  async #createOne(): Promise<boolean> {
    try {
      const sandbox = await this.#source.create(this.#abort.signal);
      if (this.#closed !== undefined) await sandbox.destroy();
      else this.#offer(sandbox);
      return true;
    } catch (reason) {
      this.#fail(reason);
      return false;
    }
  }

  #offer(sandbox: Sandbox): void {
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      taker.resolve(sandbox);
      return;
    }
    this.#ready.push(sandbox);
    void sandbox.ended.then(() => {
      const at = this.#ready.indexOf(sandbox);
      if (at < 0) return;
      this.#ready.splice(at, 1);
      this.#refill();
    });
    if (this.#ready.length < this.#limits.size) return;
    for (const watcher of this.#watchers.splice(0)) watcher.resolve();
  }

  #fail(reason: unknown): void {
    for (const waiting of [...this.#takers.splice(0), ...this.#watchers.splice(0)]) waiting.reject(reason);
  }

  /** Destroys what nobody has taken. Whoever waits gets an AleError `pool-closed`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#abort.abort(poolClosed());
    this.#fail(poolClosed());
    await Promise.all([...this.#creating]);
    await Promise.all(this.#ready.splice(0).map((sandbox) => sandbox.destroy()));
    this.#source.closed();
  }
}

const poolClosed = (): AleError =>
  new AleError("pool-closed", "the pool of sandboxes has been closed", { next: "open another one" });
