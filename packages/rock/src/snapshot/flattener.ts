import { mkdirSync } from "node:fs";
import { removeLayer, usageBelow, writeMerged } from "../oci/layer.ts";
import type { LayerStore } from "../oci/layer-store.ts";
import { mergeLayers } from "./merge.ts";
import type { SnapshotRecord, SnapshotStore } from "./snapshot-store.ts";

/**
 * Keeps chains of layers short: a snapshot above many is given one merged layer instead, beside everything else, for forks and restarts to
 * come. What snapshots contain does not change, and the old layers go when nobody needs them. Owns the merging that is under way.
 */
export class Flattener {
  readonly #layers: LayerStore;
  readonly #store: SnapshotStore;
  readonly #depth: number;
  readonly #abort = new AbortController();
  #last: Promise<void> = Promise.resolve();

  /** `depth`: the longest chain that is left alone. */
  constructor(layers: LayerStore, store: SnapshotStore, depth: number) {
    this.#layers = layers;
    this.#store = store;
    this.#depth = depth;
  }

  /** A chain with what has been merged of it meanwhile. */
  shortened(lower: readonly string[]): readonly string[] {
    for (const [merged, parts] of this.#layers.merged) {
      const rest = lower.length - parts.length;
      if (rest >= 0 && parts.every((id, n) => lower[rest + n] === id))
        return [...lower.slice(0, rest), merged];
    }
    return lower;
  }

  /** One after another. A failure leaves everything as it was: longer chains work too. */
  consider(id: string): void {
    const depth = this.#store.find(id)?.lower.length ?? 0;
    if (depth <= this.#depth || this.#abort.signal.aborted) return;
    this.#last = this.#last.then(() => this.#flatten(id)).catch(() => {});
  }

  /** Resolves when nothing is under way. */
  settled(): Promise<void> {
    return this.#last;
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#last;
  }

  async #flatten(id: string): Promise<void> {
    const parts = this.#store.find(id)?.lower ?? [];
    if (parts.length <= this.#depth || this.#abort.signal.aborted) return;
    const merged = this.#layers.fresh();
    const holder = `flatten ${merged.id}`;
    this.#layers.hold(holder, [merged.id, ...parts]);
    try {
      mkdirSync(merged.upper, { recursive: true });
      const uppers = parts.map((part) => this.#layers.at(part).upper);
      await mergeLayers(uppers, merged.upper, this.#abort.signal);
      writeMerged(merged, { parts: [...parts], ...(await usageBelow(merged.upper)) });
      this.#layers.noteMerged(merged.id, parts);
      for (const record of this.#store.list()) await this.#shorten(record);
    } finally {
      await this.#layers.release(holder);
      if (!this.#layers.held.has(merged.id)) await removeLayer(merged);
    }
  }

  async #shorten(record: SnapshotRecord): Promise<void> {
    const lower = this.shortened(record.lower);
    if (lower === record.lower) return;
    this.#store.put({ ...record, lower });
    await this.#layers.removeUnheld(record.lower);
  }
}
