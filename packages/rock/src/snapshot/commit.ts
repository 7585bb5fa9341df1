import { join } from "node:path";
import { storedImage } from "../image/find-image.ts";
import { keepDirectory } from "../image/layers.ts";
import type { LocalImage } from "../image/local-image.ts";
import { setName } from "../image/names.ts";
import { holdStore, openStore, stage } from "../image/store.ts";
import { keepImage, localImageOf } from "../image/stored-image.ts";
import { copyLayer } from "../oci/layer-copy.ts";
import type { SandboxDriver } from "../port/driver.ts";
import type { Sandbox } from "../port/sandbox.ts";

/** A driver whose snapshots are directories above an image of a home's store. */
export interface LayeredDriver extends SandboxDriver {
  readonly home: string;
  /** The image, and the directories above it, the topmost first. */
  snapshotLayers(id: string): Promise<{ readonly image: string; readonly layers: readonly string[] }>;
}

export const isLayered = (driver: SandboxDriver): driver is LayeredDriver =>
  "home" in driver && "snapshotLayers" in driver;

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
    const { image, layers } = await driver.snapshotLayers(snapshot.id);
    const base = await storedImage(driver.home, image, signal);
    const store = openStore(driver.home);
    using _ = await holdStore(store, signal);
    const made: { diffId: string; tarBytes: number }[] = [];
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
        ...made.map(() => ({ created, created_by: `commit of sandbox ${sandbox.id}`, empty_layer: null })),
      ],
    };
    const below = base.manifest.layers;
    const sizes = [...below.map(({ size }) => size), ...made.map(({ tarBytes }) => tarBytes)];
    const committed = keepImage(store, config, sizes, below);
    setName(store, name, { type: "image", manifest: committed.digest });
    return localImageOf(store, name, committed);
  } finally {
    await driver.snapshots.remove(snapshot.id);
  }
}
