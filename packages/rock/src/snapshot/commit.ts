import { join } from "node:path";
import { AleError } from "@ale/core";
import { storedImage } from "../image/find-image.ts";
import { keepDirectory } from "../image/layers.ts";
import type { LocalImage } from "../image/local-image.ts";
import { setName } from "../image/names.ts";
import { holdStore, isDigest, openStore, stage } from "../image/store.ts";
import { keepImage, loadImage, localImageOf, type StoredImage } from "../image/stored-image.ts";
import { copyLayer } from "../oci/layer-copy.ts";
import type { SandboxDriver } from "../port/driver.ts";
import type { Sandbox } from "../port/sandbox.ts";

/** Sandboxes' files as images of the store. */

/** Directories above an image of the store. */
export interface Layers {
  readonly image: Pick<LocalImage, "name" | "digest" | "layers">;
  /** The topmost first. */
  readonly layers: readonly string[];
}

/** A driver whose snapshots are directories above an image of a home's store. */
export interface LayeredDriver extends SandboxDriver {
  readonly home: string;
  /** Its own directory, where its sandboxes are. */
  space(): Promise<string>;
  /** Of a snapshot. */
  snapshotLayers(id: string): Promise<Layers>;
  /** Of a sandbox as long as it is frozen. Throws an AleError: `sandbox-gone`, `sandbox-not-frozen`. */
  frozenLayers(id: string): Promise<Layers>;
}

export const isLayered = (driver: SandboxDriver): driver is LayeredDriver =>
  "home" in driver && "space" in driver && "snapshotLayers" in driver && "frozenLayers" in driver;

/**
 * What a sandbox has now, as an image of the store: the layers of its image, and a copy of each that it has above them. Its processes go on.
 * Throws an AleError, also where a base layer is missing; the name then stands for what it stood for before.
 */
export async function commitSandbox(
  driver: LayeredDriver,
  sandbox: Sandbox,
  name: string,
  signal?: AbortSignal,
): Promise<LocalImage> {
  const { snapshot } = await sandbox.snapshot({ processes: "keep" }, signal);
  try {
    const layers = await driver.snapshotLayers(snapshot.id);
    return (await commitLayers(driver.home, layers, { name, sandbox: sandbox.id }, signal)).image;
  } finally {
    await driver.snapshots.remove(snapshot.id);
  }
}

export interface Commit {
  readonly name: string;
  /** Told in the image's history. */
  readonly sandbox: string;
  /** Why the name must go on standing for it. */
  readonly held?: string;
}

/** Copies layers that nobody changes meanwhile; `bytes` is of their files. Throws as `commitSandbox` does. */
export async function commitLayers(
  home: string,
  { image, layers }: Layers,
  { name, sandbox, held }: Commit,
  signal?: AbortSignal,
): Promise<{ readonly image: LocalImage; readonly bytes: number }> {
  const base = await baseOf(home, image, signal);
  const store = openStore(home);
  using _ = await holdStore(store, signal);
  const made: { diffId: string; tarBytes: number; bytes: number }[] = [];
  // The store's order is from the bottom.
  for (const layer of [...layers].reverse()) {
    using place = stage(store);
    await copyLayer(layer, join(place.path, "diff"), signal);
    made.push(await keepDirectory(store, place, signal));
  }
  const created = new Date().toISOString();
  const config = {
    ...base.config,
    created,
    rootfs: {
      ...base.config.rootfs,
      diff_ids: [...base.config.rootfs.diff_ids, ...made.map(({ diffId }) => diffId as `sha256:${string}`)],
    },
    history: [
      ...(base.config.history ?? []),
      ...made.map(() => ({ created, created_by: `commit of sandbox ${sandbox}`, empty_layer: null })),
    ],
  };
  const below = base.manifest.layers;
  const sizes = [...below.map(({ size }) => size), ...made.map(({ tarBytes }) => tarBytes)];
  const committed = keepImage(store, config, sizes, below);
  setName(store, name, { type: "image", manifest: committed.digest }, held);
  return {
    image: localImageOf(store, name, committed),
    bytes: made.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** What the sandbox was made of, although its name may stand for another image by now. */
async function baseOf(home: string, image: Layers["image"], signal?: AbortSignal): Promise<StoredImage> {
  const store = openStore(home);
  const byDigest = isDigest(image.digest) ? loadImage(store, image.digest) : undefined;
  if (byDigest !== undefined) return byDigest;
  const byName = await storedImage(home, image.name, signal);
  if (isDigest(image.digest) && byName.digest !== image.digest)
    throw new AleError(
      "image-incomplete",
      `${image.name} stands for another image than the one that the sandbox was made of, which is gone`,
      { next: `make ${image.name} again as it was` },
    );
  return byName;
}
