import type { Activity } from "./activity.ts";

/** A longer timer would fire at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** When a sandbox ends by itself: at the end of its lifetime, or when nothing was asked of it for long enough. */
export class Deadlines {
  readonly #onEnd: (reason: "lifetime" | "idle") => void;
  #lifetime: NodeJS.Timeout | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(onEnd: (reason: "lifetime" | "idle") => void) {
    this.#onEnd = onEnd;
  }

  lifetime(ms: number): void {
    this.#lifetime = setTimeout(() => this.#onEnd("lifetime"), Math.min(ms, LONGEST_TIMER_MS)).unref();
  }

  /** Looks again when it could be due at the earliest, so that a request costs no timer. */
  idle(ms: number, activity: Activity): void {
    const left = ms - activity.idleMs;
    if (left <= 0) this.#onEnd("idle");
    else {
      const again = Math.min(Math.max(left, 1), LONGEST_TIMER_MS);
      this.#idle = setTimeout(() => this.idle(ms, activity), again).unref();
    }
  }

  clear(): void {
    clearTimeout(this.#lifetime);
    clearTimeout(this.#idle);
  }
}
