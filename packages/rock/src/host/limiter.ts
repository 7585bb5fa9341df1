/** Lets at most `size` tasks run at a time, in the order of their coming. */
export class Limiter {
  readonly #size: number;
  #running = 0;
  #queue: (() => void)[] = [];
  #giveWay: (() => void)[] = [];

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
      this.#passIfFree();
    }
  }

  /** Resolves when nobody waits for a turn, or after `longestMs`: for work that can wait, so that what others wait for comes first. */
  giveWay(longestMs: number): Promise<void> {
    if (this.#queue.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const pass = (): void => {
        clearTimeout(timer);
        this.#giveWay = this.#giveWay.filter((waiting) => waiting !== pass);
        resolve();
      };
      const timer = setTimeout(pass, longestMs);
      this.#giveWay.push(pass);
    });
  }

  #passIfFree(): void {
    if (this.#queue.length === 0) for (const pass of this.#giveWay) pass();
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
        this.#passIfFree();
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
