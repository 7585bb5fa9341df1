import { mkdirSync, symlinkSync } from "node:fs";
import { join, relative } from "node:path";
import { AleError } from "@ale/core";
import { BASE_IMAGE, baseImage, resolveImage } from "./image.ts";
import { keepDirectory, readLayer } from "./layers.ts";
import { type Config, environmentList, hostPlatform } from "./manifest.ts";
import { getName, setName } from "./names.ts";
import { canonicalName } from "./reference.ts";
import { lock, openStore, type Store, stage } from "./store.ts";
import { keepImage, loadImage, type StoredImage } from "./stored-image.ts";

/** The image behind a name with all that is needed to hand it on. Throws an AleError for a name that is not known. */
export async function storedImage(home: string, name: string, signal?: AbortSignal): Promise<StoredImage> {
  const store = openStore(home);
  const local = resolveImage(home, name);
  const real = local.mappedTo ?? name;
  if (canonicalName(real) === canonicalName(BASE_IMAGE)) return storedBase(home, store, signal);
  const target = getName(store, real)?.target;
  const image = target?.type === "image" ? loadImage(store, target.manifest) : undefined;
  if (image === undefined) throw new AleError("image-incomplete", `the manifest of ${name} is missing`);
  return image;
}

/** The base image lies in a place of its own; its layer in the store only points there. Its digest is computed once. */
async function storedBase(home: string, store: Store, signal?: AbortSignal): Promise<StoredImage> {
  const { rootfs, version } = baseImage(home);
  const find = (): StoredImage | undefined => {
    const target = getName(store, BASE_IMAGE)?.target;
    if (target?.type !== "image" || target.recipe !== version) return undefined;
    const image = loadImage(store, target.manifest);
    return image?.config.rootfs.diff_ids.every((diffId) => readLayer(store, diffId)) ? image : undefined;
  };
  const before = find();
  if (before !== undefined) return before;
  using _ = await lock(store, "base", signal);
  const meanwhile = find();
  if (meanwhile !== undefined) return meanwhile;
  using place = stage(store);
  mkdirSync(place.path, { recursive: true });
  // From where it will lie, `layers/<hex>`: the home may move, or be reached by another path.
  symlinkSync(join("..", "..", relative(store.root, rootfs)), join(place.path, "diff"));
  const layer = await keepDirectory(store, place, signal);
  const image = keepImage(store, baseConfig(home, layer.diffId), [layer.tarBytes]);
  setName(store, BASE_IMAGE, { type: "image", manifest: image.digest, recipe: version });
  return image;
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

function baseConfig(home: string, diffId: string): Config {
  const { config } = resolveImage(home, BASE_IMAGE);
  const [os, architecture] = hostPlatform().split("/");
  return {
    architecture: architecture!,
    os: os!,
    created: "1970-01-01T00:00:00Z",
    config: {
      Env: environmentList({ PATH, ...config.env }),
      WorkingDir: config.workdir,
      User: config.user,
      Entrypoint: null,
      Cmd: ["/bin/bash"],
      ExposedPorts: null,
      Labels: null,
      Volumes: null,
      Shell: null,
    },
    rootfs: { type: "layers", diff_ids: [diffId as `sha256:${string}`] },
    history: [{ created: null, created_by: "bootstrap", empty_layer: null }],
  };
}
