import { mkdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { z } from "zod";
import { usageOf } from "../oci/layer.ts";
import type { LayerStore } from "../oci/layer-store.ts";
import { entries, readWhole, ShellStateRecord, Stack, writeWhole } from "../oci/state.ts";
import type { Snapshot } from "../port/snapshot.ts";

/** What is known of the snapshots of a space: one file each, and the layers that it needs. */

const SnapshotRecord = Stack.extend({
  id: z.string(),
  parent: z.string().nullable(),
  sandbox: z.string(),
  createdAtMs: z.number(),
  labels: z.record(z.string(), z.string()),
  bytes: z.number(),
  inodes: z.number(),
  shells: z.array(ShellStateRecord).readonly(),
});
export type SnapshotRecord = z.infer<typeof SnapshotRecord>;

export const snapshotsOf = (space: string): string => join(space, ".snapshots");

/** Those whose record is whole. */
export function readSnapshots(space: string): SnapshotRecord[] {
  const names = entries(snapshotsOf(space)).filter((name) => name.endsWith(".json"));
  return names.flatMap((name) => readWhole(join(snapshotsOf(space), name), SnapshotRecord) ?? []);
}

export class SnapshotStore {
  readonly #space: string;
  readonly #layers: LayerStore;
  readonly #records = new Map<string, SnapshotRecord>();

  /** Reads what a former owner left, and holds its layers. */
  constructor(space: string, layers: LayerStore) {
    this.#space = space;
    this.#layers = layers;
    mkdirSync(snapshotsOf(space), { recursive: true, mode: 0o700 });
    for (const record of readSnapshots(space)) this.#keep(record);
  }

  list(): readonly SnapshotRecord[] {
    return [...this.#records.values()].sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  find(id: string): SnapshotRecord | undefined {
    return this.#records.get(id);
  }

  /** Throws an AleError `snapshot-unknown`. */
  get(id: string): SnapshotRecord {
    const record = this.#records.get(id);
    if (record === undefined)
      throw new AleError("snapshot-unknown", `there is no snapshot ${JSON.stringify(id.slice(0, 80))}`, {
        next: "list the snapshots of this driver; one of a library driver ends with its process",
      });
    return record;
  }

  /** A record under an id that is there replaces it. */
  put(record: SnapshotRecord): void {
    writeWhole(this.#file(record.id), record);
    this.#keep(record);
  }

  async remove(id: string): Promise<void> {
    this.get(id);
    unlinkSync(this.#file(id));
    this.#records.delete(id);
    await this.#layers.release(id);
  }

  /** Bytes of all layers that snapshots need, each counted once. */
  get bytes(): number {
    const ids = new Set(this.list().flatMap((record) => record.lower));
    return [...ids].reduce((sum, id) => sum + (usageOf(this.#layers.at(id)).diskBytes ?? 0), 0);
  }

  #keep(record: SnapshotRecord): void {
    this.#records.set(record.id, record);
    this.#layers.hold(record.id, record.lower);
  }

  #file(id: string): string {
    return join(snapshotsOf(this.#space), `${id}.json`);
  }
}

export const asSnapshot = (record: SnapshotRecord): Snapshot => ({
  id: record.id,
  image: record.image.name,
  parent: record.parent,
  sandbox: record.sandbox,
  createdAtMs: record.createdAtMs,
  labels: record.labels,
  bytes: record.bytes,
  inodes: record.inodes,
  depth: record.lower.length,
});
