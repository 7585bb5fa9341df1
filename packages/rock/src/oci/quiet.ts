import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";

/**
 * Whose turn it is with a sandbox. What must not be disturbed (a restart, a copy of its layer) comes one after another, and requests wait
 * meanwhile; work on its files from outside is waited for.
 */

/** How long a restart waits for work on files. */
const PATIENCE_MS = 10_000;

export class Quiet {
  /** Settles with the last work asked for. */
  #settled: Promise<void> = Promise.resolve();
  #waiting = 0;
  readonly #uses = new Set<Promise<void>>();

  /** Undefined unless somebody must not be disturbed; then resolves with the end of that. */
  get settled(): Promise<void> | undefined {
    return this.#waiting > 0 ? this.whenSettled() : undefined;
  }

  async whenSettled(): Promise<void> {
    while (this.#waiting > 0) await this.#settled;
  }

  /** Does it when all before it is done. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const working = this.#settled.then(work);
    this.settleAfter(working);
    return working;
  }

  /** It has begun already. */
  settleAfter(working: Promise<unknown>): void {
    this.#waiting++;
    const over = (): void => {
      this.#waiting--;
    };
    this.#settled = working.then(over, over);
  }

  /** For work on its files from outside. */
  use(): Disposable {
    const over = Promise.withResolvers<void>();
    this.#uses.add(over.promise);
    return {
      [Symbol.dispose]: () => {
        this.#uses.delete(over.promise);
        over.resolve();
      },
    };
  }

  /** Whoever writes a file now must not find that it has become a part of a snapshot. Throws an AleError `sandbox-busy`. */
  async unused(id: string): Promise<void> {
    const patience = new AbortController();
    const tooLong = sleep(PATIENCE_MS, "too long", { signal: patience.signal, ref: false }).catch(() => "");
    const free = Promise.all(this.#uses).then(() => "free");
    const first = await Promise.race([free, tooLong]);
    patience.abort();
    if (first === "too long")
      throw new AleError("sandbox-busy", `files of sandbox ${id} are being written from outside`, {
        next: "wait for the upload to end, and ask again",
      });
  }
}
