import { setImmediate as nextTurn } from "node:timers/promises";

/** Longest time for which file work keeps others waiting. */
const SLICE_MS = 8;

/** Lets the event loop turn now and then during long synchronous work. */
export class Pacer {
  #since = performance.now();

  async breathe(): Promise<void> {
    if (performance.now() - this.#since < SLICE_MS) return;
    await nextTurn();
    this.#since = performance.now();
  }
}
