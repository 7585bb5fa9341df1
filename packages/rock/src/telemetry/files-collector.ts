import { telemetryNow } from "@ale/core";
import { fromWallMs } from "./clock.ts";
import type { CollectorKind, Observed, Tell } from "./collector.ts";
import { UpperScan } from "./upper-scan.ts";

/**
 * What was done to files: places that matter were changed, as the writable layer shows from outside, and files that were planted at the start were
 * opened for reading. Who did it, files do not tell.
 */

const EVERY_MS = 250;
/** A scan takes at most this part of the time, however much there is to look at. */
const LARGEST_SHARE = 0.05;
/** The kernel stamps files with a clock that ticks, and so up to this much too early. */
const STAMP_TICK_MS = 10;

class Watched {
  readonly sandbox: Observed;
  readonly #scan = new UpperScan();
  readonly #read = new Set<string>();
  readonly #tell: Tell;
  #upper: string | undefined;
  #lookedAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(sandbox: Observed, tell: Tell) {
    this.sandbox = sandbox;
    this.#tell = tell;
    this.settle();
    this.#later(EVERY_MS);
  }

  /** What is there now, and what was read until now, is nothing new. */
  settle(): void {
    const upper = this.sandbox.upper();
    this.#lookedAt = telemetryNow();
    if (upper !== undefined) this.#scan.changes(upper, this.sandbox.lower());
    this.#upper = upper;
    for (const path of this.sandbox.filesRead()) this.#read.add(path);
  }

  look(): void {
    const upper = this.sandbox.upper();
    const at = telemetryNow();
    if (upper !== undefined && this.#upper !== undefined && upper !== this.#upper) {
      // Another layer: what the former one held lies below it.
      this.settle();
    } else if (upper !== undefined) {
      this.#upper = upper;
      // What was moved here with its directory has older times of its own: it is told as happening now.
      const before = this.#lookedAt;
      this.#lookedAt = at;
      for (const { path, change, changedAtMs } of this.#scan.changes(upper, this.sandbox.lower()))
        this.#tell({
          at: Math.max(before, fromWallMs(changedAtMs, before - STAMP_TICK_MS)),
          kind: "file.change",
          source: "files",
          sandbox: this.sandbox.id,
          file: { path, change },
        });
    }
    for (const path of this.sandbox.filesRead()) {
      if (this.#read.has(path)) continue;
      this.#read.add(path);
      this.#tell({ at, kind: "file.read", source: "files", sandbox: this.sandbox.id, file: { path } });
    }
  }

  #later(ms: number): void {
    this.#timer = setTimeout(() => {
      const begun = performance.now();
      this.look();
      this.#later(Math.max(EVERY_MS, (performance.now() - begun) / LARGEST_SHARE));
    }, ms).unref();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

export function filesCollector(): CollectorKind {
  return {
    sources: ["files"],
    start: (tell) => {
      const watched = new Map<string, Watched>();
      const forget = (id: string): void => {
        watched.get(id)?.end();
        watched.delete(id);
      };
      return {
        follow: (sandbox) => void watched.set(sandbox.id, new Watched(sandbox, tell)),
        forget,
        drain: async (id) => watched.get(id)?.look(),
        unseen: async (id, work) => {
          watched.get(id)?.look();
          try {
            return await work();
          } finally {
            watched.get(id)?.settle();
          }
        },
        [Symbol.dispose]: () => {
          for (const id of [...watched.keys()]) forget(id);
        },
      };
    },
  };
}
