import { statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { AleError, suggest } from "@ale/core";
import { BASE_IMAGE } from "./image.ts";
import { layersInUse } from "./image-use.ts";
import { dropLayer, layerPath, listLayers, readLayer } from "./layers.ts";
import { getName, heldName, listNames, type NameRecord, removeName } from "./names.ts";
import { canonicalName } from "./reference.ts";
import {
  blobPath,
  clearDeadStages,
  entries,
  hexOf,
  holdStoreAlone,
  openStore,
  removeFile,
  type Store,
  stage,
} from "./store.ts";
import { loadImage, type StoredImage } from "./stored-image.ts";

/** What is in the store, what it costs, and how it goes. What a name, a sandbox or a snapshot stands on is never removed. */

export interface ImageInfo {
  readonly name: string;
  readonly digest: string;
  readonly mappedTo?: string;
  readonly updatedAtMs: number;
  readonly layers: number;
  /** Of all files in its layers, unpacked. */
  readonly bytes: number;
  /** The part of `bytes` that no other image shares. */
  readonly ownBytes: number;
  /** Sandboxes and snapshots that stand on its layers. */
  readonly usedBy: readonly string[];
  /** Of those, the ones that stand on layers which no other image has. */
  readonly neededBy: readonly string[];
  /** Why it cannot be removed. */
  readonly held?: string;
  /** False where a layer or document is missing: it has to be pulled or made again. */
  readonly complete: boolean;
}

/** Sorted by name. */
export function listImages(home: string): ImageInfo[] {
  const store = openStore(home);
  const use = layersInUse(home).layers;
  const names = listNames(store);
  const images = new Map(names.map((record) => [record.name, imageOf(store, record.name)]));
  const holders = new Map<string, Set<string>>();
  for (const image of images.values())
    for (const diffId of image?.config.rootfs.diff_ids ?? [])
      holders.set(diffId, (holders.get(diffId) ?? new Set()).add(image!.digest));
  return names.map((record): ImageInfo => {
    const image = images.get(record.name);
    const diffIds = image?.config.rootfs.diff_ids ?? [];
    const records = diffIds.map((diffId) => readLayer(store, diffId));
    const usersOf = (of: readonly string[]): string[] =>
      [...new Set(of.flatMap((diffId) => use.get(directoryName(store, diffId)) ?? []))].sort();
    const own = diffIds.filter((diffId) => holders.get(diffId)!.size === 1);
    const sum = (of: readonly string[]): number =>
      [...new Set(of)].reduce((total, diffId) => total + (readLayer(store, diffId)?.bytes ?? 0), 0);
    return {
      name: record.name,
      digest: image?.digest ?? "",
      ...(record.target.type === "mapped" ? { mappedTo: record.target.to } : {}),
      updatedAtMs: record.updatedAtMs,
      layers: diffIds.length,
      bytes: sum(diffIds),
      ownBytes: sum(own),
      usedBy: usersOf(diffIds),
      neededBy: usersOf(own),
      ...(record.held === undefined ? {} : { held: record.held }),
      complete: image !== undefined && records.every((one) => one !== undefined),
    };
  });
}

const directoryName = (store: Store, diffId: string): string => basename(dirname(layerPath(store, diffId)));

/** Through mappings. Undefined where something is missing or broken. */
function imageOf(store: Store, name: string, depth = 0): StoredImage | undefined {
  const target = getName(store, name)?.target;
  if (target === undefined || depth > 8) return undefined;
  if (target.type === "mapped") return imageOf(store, target.to, depth + 1);
  try {
    return loadImage(store, target.manifest);
  } catch {
    return undefined;
  }
}

export interface Removal {
  readonly layers: number;
  readonly bytes: number;
  /** The store was being worked on: the name is gone, and what it stood for goes with the next prune. */
  readonly deferred: boolean;
}

/** Throws an AleError: `image-unknown`, `image-in-use` (by a mapping, a sandbox or a snapshot), `image-reserved`, `image-held`. */
export function removeImage(home: string, name: string): Removal {
  const store = openStore(home);
  const canonical = canonicalName(name);
  if (canonical === canonicalName(BASE_IMAGE))
    throw new AleError("image-reserved", `${BASE_IMAGE} is what sandboxes stand on by default`, {
      next: `remove ${join(home, "images", "ale-base")} by hand if no sandbox runs and you really mean it`,
    });
  const record = getName(store, name);
  if (record === undefined) throw unknownOf(store, name);
  if (record.held !== undefined) throw heldName(canonical, record.held);
  const info = listImages(home);
  const mapped = info.filter((one) => one.mappedTo === canonical);
  if (mapped.length > 0)
    throw inUse(name, `${mapped.map((one) => one.name).join(", ")} stand for it`, "remove those names first");
  const own = info.find((one) => one.name === canonical);
  const isLast = !info.some((one) => one.name !== canonical && one.digest === own?.digest);
  if (own !== undefined && own.mappedTo === undefined && isLast && own.neededBy.length > 0)
    throw inUse(
      name,
      `it is used by ${own.neededBy.slice(0, 5).join(", ")}`,
      "end those sandboxes or remove those snapshots first",
    );
  const image = record.target.type === "image" ? imageOf(store, canonical) : undefined;
  removeName(store, canonical);
  return sweep(home, store, image?.config.rootfs.diff_ids ?? []) ?? { layers: 0, bytes: 0, deferred: true };
}

function unknownOf(store: Store, name: string): AleError {
  const near = suggest(
    canonicalName(name),
    listNames(store).map((record) => record.name),
  );
  const list = "ale rock image ls shows them all";
  return new AleError("image-unknown", `there is no local image called ${name}`, {
    next: near === undefined ? list : `did you mean ${near}? ${list}`,
  });
}

const inUse = (name: string, why: string, next: string): AleError =>
  new AleError("image-in-use", `${name} cannot be removed: ${why}`, { next });

/**
 * Removes everything that no name, sandbox or snapshot stands on: layers of untagged images and of the build cache, downloads that were
 * never finished. Throws an AleError `store-busy` while images are being made.
 */
export function pruneImages(home: string): Removal {
  const store = openStore(home);
  const removal = sweep(home, store, undefined);
  if (removal === undefined)
    throw new AleError("store-busy", "images are being pulled, built or imported", {
      next: "try again when that is done",
    });
  return removal;
}

/** Of these layers, or of all and everything else. Undefined where somebody works on the store. */
function sweep(home: string, store: Store, candidates: readonly string[] | undefined): Removal | undefined {
  using alone = holdStoreAlone(store);
  if (alone === undefined) return undefined;
  clearDeadStages(store);
  const kept = keptBy(store);
  const layers = candidates ?? listLayers(store).map(({ diffId }) => diffId);
  let [count, bytes] = [0, 0];
  using place = stage(store);
  for (const diffId of new Set(layers)) {
    // Asked for each one: a sandbox may have begun meanwhile.
    if (kept.has(diffId) || layersInUse(home).layers.has(directoryName(store, diffId))) continue;
    const record = readLayer(store, diffId);
    if (record === undefined) continue;
    dropLayer(store, place, diffId);
    count++;
    bytes += record.bytes;
  }
  bytes += sweepBlobs(store, kept);
  if (candidates === undefined) bytes += sweepRest(store);
  return { layers: count, bytes, deferred: false };
}

/** Digests of all that names stand for: manifests, configurations, blobs and unpacked layers. */
function keptBy(store: Store, counts: (record: NameRecord) => boolean = () => true): Set<string> {
  const kept = new Set<string>();
  for (const { name, target } of listNames(store).filter(counts)) {
    // Also where the rest cannot be read: a broken image is told, not made worse.
    if (target.type === "image") kept.add(target.manifest);
    const image = imageOf(store, name);
    if (image === undefined) continue;
    kept.add(image.manifest.config.digest);
    for (const { digest } of image.manifest.layers) kept.add(digest);
    for (const diffId of image.config.rootfs.diff_ids) kept.add(diffId);
  }
  return kept;
}

function sweepBlobs(store: Store, kept: ReadonlySet<string>): number {
  let bytes = 0;
  for (const hex of entries(join(store.root, "blobs", "sha256"))) {
    if (!/^[0-9a-f]{64}$/.test(hex) || kept.has(`sha256:${hex}`)) continue;
    bytes += sizeOf(blobPath(store, `sha256:${hex}`));
    removeFile(blobPath(store, `sha256:${hex}`));
  }
  return bytes;
}

/** Downloads that nobody goes on with, records of steps whose layer is gone, locks that nobody holds. */
function sweepRest(store: Store): number {
  let bytes = 0;
  for (const directory of ["partial", "cache"])
    for (const file of entries(join(store.root, directory))) {
      const path = join(store.root, directory, file);
      bytes += sizeOf(path);
      removeFile(path);
    }
  return bytes;
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

export interface ImageDisk {
  /** Unpacked layers, each counted once. */
  readonly layerBytes: number;
  /** Layers as they came from registries and archives, kept so that they can be handed on unchanged. */
  readonly blobBytes: number;
  /** Of `layerBytes`, what no name, sandbox or snapshot needs. */
  readonly unusedBytes: number;
  /** Of `layerBytes`, what is only there because it is evidence. */
  readonly heldBytes: number;
}

export function imageDisk(home: string): ImageDisk {
  const store = openStore(home);
  const [kept, use] = [keptBy(store), layersInUse(home).layers];
  const free = keptBy(store, ({ held }) => held === undefined);
  const layers = listLayers(store);
  const sum = (list: readonly { readonly bytes: number }[]): number =>
    list.reduce((total, { bytes }) => total + bytes, 0);
  const blobs = entries(join(store.root, "blobs", "sha256")).map((hex) =>
    join(store.root, "blobs", "sha256", hex),
  );
  return {
    layerBytes: sum(layers),
    blobBytes: blobs.reduce((total, path) => total + sizeOf(path), 0),
    unusedBytes: sum(
      layers.filter(({ diffId }) => !kept.has(diffId) && !use.has(hexOf(diffId).slice(0, 32))),
    ),
    heldBytes: sum(layers.filter(({ diffId }) => kept.has(diffId) && !free.has(diffId))),
  };
}
