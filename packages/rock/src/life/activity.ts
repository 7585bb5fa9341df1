/**
 * What is asked of a sandbox, and since when nothing is. Whoever serves a request of a user holds `begin()` for as long as it lasts:
 * a command until its end, a stream until it closes.
 */
export class Activity {
  #startedAt = performance.now();
  #running = 0;
  #lastAt = performance.now();
  #outputBytes = 0;

  /** Nothing counts as idle until the result is disposed of; twice is as good as once. */
  begin(): Disposable {
    let over = false;
    this.#running++;
    return {
      [Symbol.dispose]: () => {
        if (over) return;
        over = true;
        this.#running--;
        this.#lastAt = performance.now();
      },
    };
  }

  /** The sandbox's time begins now. */
  restart(): void {
    this.#startedAt = performance.now();
    this.#lastAt = this.#startedAt;
  }

  /** Counts what programs wrote to their output, kept or not. */
  addOutput(bytes: number): void {
    this.#outputBytes += bytes;
  }

  get outputBytes(): number {
    return this.#outputBytes;
  }

  get uptimeMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** 0 while something is asked of it. */
  get idleMs(): number {
    return this.#running > 0 ? 0 : performance.now() - this.#lastAt;
  }
}
