import type { Hold } from "../port/sandbox.ts";
import type { Activity } from "./activity.ts";

/** A longer timer would fire at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

const MOST_HELD_MS = 24 * 3_600_000;

/** When a sandbox ends by itself: at the end of its lifetime, or when nothing was asked of it for long enough. */
export class Deadlines {
  readonly #onEnd: (reason: "lifetime" | "idle") => void;
  #lifetime: NodeJS.Timeout | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** Of the lifetime; `at` is when that was so. */
  #left: { readonly ms: number; readonly at: number } | undefined;
  #idleLimit: { readonly ms: number; readonly activity: Activity } | undefined;
  #holds = 0;
  /** What may still be held by those who are not trusted with for ever. */
  #budgetMs = MOST_HELD_MS;
  #over = false;

  constructor(onEnd: (reason: "lifetime" | "idle") => void) {
    this.#onEnd = onEnd;
  }

  lifetime(ms: number): void {
    this.#left = { ms, at: performance.now() };
    this.#run();
  }

  idle(ms: number, activity: Activity): void {
    this.#idleLimit = { ms, activity };
    this.#run();
  }

  /** Neither ends it until the result is disposed of; then the lifetime goes on with what was left, and the idle time begins anew. */
  hold(): Disposable {
    if (this.#holds++ === 0) {
      this.#stop();
      if (this.#left !== undefined)
        this.#left = { ms: this.#left.ms - (performance.now() - this.#left.at), at: performance.now() };
    }
    let over = false;
    return {
      [Symbol.dispose]: () => {
        if (over) return;
        over = true;
        if (--this.#holds > 0) return;
        if (this.#left !== undefined) this.#left = { ...this.#left, at: performance.now() };
        this.#idleLimit?.activity.begin()[Symbol.dispose]();
        this.#run();
      },
    };
  }

  /** The same, for so long at most, and for a day altogether. */
  holdWithin(maxMs: number): Hold {
    const heldMs = Math.max(0, Math.min(maxMs, this.#budgetMs));
    this.#budgetMs -= heldMs;
    const began = performance.now();
    const held = this.hold();
    const leftMs = Math.max(0, Math.min(this.#left?.ms ?? Infinity, this.#idleLimit?.ms ?? Infinity));
    let over = false;
    const release = (): void => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      this.#budgetMs += Math.max(0, heldMs - (performance.now() - began));
      held[Symbol.dispose]();
    };
    const timer = setTimeout(release, Math.min(heldMs, LONGEST_TIMER_MS)).unref();
    return { heldMs, leftMs, [Symbol.dispose]: release };
  }

  clear(): void {
    this.#over = true;
    this.#stop();
  }

  #stop(): void {
    clearTimeout(this.#lifetime);
    clearTimeout(this.#idle);
  }

  #run(): void {
    this.#stop();
    if (this.#holds > 0 || this.#over) return;
    if (this.#left !== undefined) {
      const left = Math.max(0, this.#left.ms - (performance.now() - this.#left.at));
      this.#lifetime = setTimeout(() => this.#onEnd("lifetime"), Math.min(left, LONGEST_TIMER_MS)).unref();
    }
    this.#lookIfIdle();
  }

  /** Looks again when it could be due at the earliest, so that a request costs no timer. */
  #lookIfIdle(): void {
    if (this.#idleLimit === undefined) return;
    const left = this.#idleLimit.ms - this.#idleLimit.activity.idleMs;
    if (left <= 0) this.#onEnd("idle");
    else {
      const again = Math.min(Math.max(left, 1), LONGEST_TIMER_MS);
      this.#idle = setTimeout(() => this.#lookIfIdle(), again).unref();
    }
  }
}
