/** Lets at most `size` tasks run at a time, in the order of their coming. */
export class Limiter {
  readonly #size: number;
  #running = 0;
  #queue: (() => void)[] = [];

  constructor(size: number) {
    this.#size = size;
  }

  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#enter(signal);
    try {
      return await task();
    } finally {
      this.#running--;
      this.#queue.shift()?.();
    }
  }

  #enter(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#running < this.#size) {
      this.#running++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#queue = this.#queue.filter((waiting) => waiting !== go);
        reject(signal?.reason);
      };
      const go = (): void => {
        signal?.removeEventListener("abort", leave);
        this.#running++;
        resolve();
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#queue.push(go);
    });
  }
}
