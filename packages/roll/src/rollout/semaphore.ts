/** Bounds how many of something run at once. Waiters are served in order. */
export interface Semaphore {
  /** Runs `work` when a place is free. */
  run<T>(work: () => Promise<T>): Promise<T>;
}

export function semaphore(places: number): Semaphore {
  let free = places;
  const waiting: (() => void)[] = [];
  return {
    async run(work) {
      if (free > 0) free--;
      else await new Promise<void>((go) => waiting.push(go));
      try {
        return await work();
      } finally {
        const next = waiting.shift();
        if (next === undefined) free++;
        else next();
      }
    },
  };
}
