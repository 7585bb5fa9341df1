import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync } from "node:fs";
import { type LayerPlace, layerPlace, layersOf, readMerged, removeLayer } from "./layer.ts";
import { entries } from "./state.ts";

/**
 * The layers of a space and who needs them. Holders are sandboxes and snapshots; each says on disk which layers it holds, and this is a
 * reading of that, made anew by every owner. A layer without a holder is removed.
 */
export class LayerStore {
  readonly space: string;
  readonly #held = new Map<string, ReadonlySet<string>>();
  readonly #merged = new Map<string, readonly string[]>();

  constructor(space: string) {
    this.space = space;
    // Runtimes pass through it to what they bind over files of the image.
    mkdirSync(layersOf(space), { recursive: true });
    chmodSync(layersOf(space), 0o711);
  }

  /** Merged layers and what they were made of. */
  get merged(): ReadonlyMap<string, readonly string[]> {
    return this.#merged;
  }

  noteMerged(id: string, parts: readonly string[]): void {
    this.#merged.set(id, parts);
  }

  /** A name for a layer that is not yet there. */
  fresh(): LayerPlace {
    return this.at(randomBytes(6).toString("hex"));
  }

  at(id: string): LayerPlace {
    return layerPlace(this.space, id);
  }

  /** From now on `holder` needs exactly these. */
  hold(holder: string, layers: Iterable<string>): void {
    this.#held.set(holder, new Set(layers));
  }

  isHeldBeside(holder: string, layer: string): boolean {
    return [...this.#held].some(([other, layers]) => other !== holder && layers.has(layer));
  }

  get held(): ReadonlySet<string> {
    return new Set([...this.#held.values()].flatMap((layers) => [...layers]));
  }

  async release(holder: string): Promise<void> {
    const before = this.#held.get(holder) ?? new Set();
    this.#held.delete(holder);
    await this.removeUnheld(before);
  }

  async removeUnheld(candidates: Iterable<string>): Promise<void> {
    const held = this.held;
    for (const id of candidates) {
      if (held.has(id)) continue;
      this.#merged.delete(id);
      await removeLayer(this.at(id));
    }
  }

  /** What a former owner began and no metadata mentions. */
  async sweep(): Promise<void> {
    const found = entries(layersOf(this.space)).map((name) => name.replace(/\.img$/, ""));
    await this.removeUnheld(new Set(found));
    for (const id of this.held) {
      const merged = readMerged(this.at(id));
      if (merged !== undefined) this.#merged.set(id, merged.parts);
    }
  }
}
