import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { removeTree } from "../host/mounts.ts";
import { diffIdOf, emptyReport } from "./layer-pack.ts";
import { type Digest, entries, hexOf, type Stage, type Store } from "./store.ts";

/** Unpacked layers: immutable, shared by every image that has them, known by the digest of their uncompressed tar. */

const LayerRecord = z.object({
  diffId: z.string(),
  /** Of the files' contents. */
  bytes: z.number(),
  /** Of the uncompressed tar. */
  tarBytes: z.number(),
  entries: z.number(),
  /** Devices and the like that were left out. */
  skipped: z.number(),
});
export type LayerRecord = z.infer<typeof LayerRecord>;

/** 128 bits of the digest: short enough for the options of an overlay of many layers. */
const directoryOf = (store: Store, diffId: string): string =>
  join(store.root, "layers", hexOf(diffId).slice(0, 32));

/** The directory that becomes a lower layer. */
export const layerPath = (store: Store, diffId: string): string => join(directoryOf(store, diffId), "diff");

/** Undefined where the layer is not there. */
export function readLayer(store: Store, diffId: string): LayerRecord | undefined {
  const record = readRecord(directoryOf(store, diffId));
  return record?.diffId === diffId ? record : undefined;
}

export function listLayers(store: Store): LayerRecord[] {
  const parent = join(store.root, "layers");
  return entries(parent).flatMap((name) => readRecord(join(parent, name)) ?? []);
}

function readRecord(directory: string): LayerRecord | undefined {
  try {
    return LayerRecord.parse(JSON.parse(readFileSync(join(directory, "layer.json"), "utf8")));
  } catch {
    return undefined;
  }
}

/** Makes a finished `diff` directory of a stage a layer of the store. Where another process was quicker, its layer stays. */
export function keepLayer(store: Store, stage: Stage, record: LayerRecord): void {
  const target = directoryOf(store, record.diffId);
  mkdirSync(join(store.root, "layers"), { recursive: true, mode: 0o700 });
  const whole = join(stage.path, "layer");
  mkdirSync(whole, { mode: 0o700 });
  renameSync(join(stage.path, "diff"), join(whole, "diff"));
  writeFileSync(join(whole, "layer.json"), `${JSON.stringify(record)}\n`, { flush: true });
  try {
    renameSync(whole, target);
  } catch (cause) {
    if (!existsSync(join(target, "layer.json"))) throw cause;
  }
}

/** The same for a directory whose digest is not known yet. */
export async function keepDirectory(store: Store, stage: Stage, signal?: AbortSignal): Promise<LayerRecord> {
  const report = emptyReport();
  const diffId = (await diffIdOf(join(stage.path, "diff"), report, signal)) as Digest;
  const record = { diffId, ...report };
  keepLayer(store, stage, record);
  return record;
}

/** Moved away first, so that a crash leaves no torn layer. */
export function dropLayer(store: Store, stage: Stage, diffId: string): void {
  const gone = join(stage.path, hexOf(diffId).slice(0, 32));
  try {
    renameSync(directoryOf(store, diffId), gone);
  } catch {
    return;
  }
  removeTree(gone);
}
