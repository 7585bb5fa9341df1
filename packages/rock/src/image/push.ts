import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, statSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { AleError } from "@ale/core";
import { storedImage } from "./find-image.ts";
import { packLayer } from "./layer-pack.ts";
import { layerPath, readLayer } from "./layers.ts";
import { type Descriptor, type Manifest, MEDIA } from "./manifest.ts";
import { parseReference } from "./reference.ts";
import { Registry, type RegistryOptions } from "./registry.ts";
import {
  blobPath,
  type Digest,
  digestOf,
  hasBlob,
  holdStore,
  openStore,
  readBlob,
  type Stage,
  type Store,
  stage,
} from "./store.ts";
import type { StoredImage } from "./stored-image.ts";

/** Images of the store to a registry. */

export interface PushProgress {
  readonly type: "exists" | "packing" | "uploading" | "done";
  readonly digest: string;
  readonly totalBytes: number;
}

export interface PushOptions extends Omit<RegistryOptions, "mirrors"> {
  readonly onProgress?: (progress: PushProgress) => void;
}

export interface PushResult {
  /** By which the registry has it from now on. */
  readonly digest: Digest;
  readonly reference: string;
}

/**
 * Uploads what the registry does not have yet. Layers that came from a registry go back byte for byte; those made here are compressed on
 * the way, therefore the image's digest in the registry is told. Throws an AleError as `pullImage` does.
 */
export async function pushImage(
  home: string,
  name: string,
  reference: string = name,
  options: PushOptions = {},
  signal?: AbortSignal,
): Promise<PushResult> {
  const target = parseReference(reference);
  if (target.digest !== undefined)
    throw new AleError("reference-invalid", "an image is pushed to a tag, not to a digest", {
      next: `push to ${reference.slice(0, reference.indexOf("@"))}`,
    });
  const store = openStore(home);
  using _ = await holdStore(store, signal);
  using place = stage(store);
  const image = await storedImage(home, name, signal);
  const registry = new Registry(target, "pull,push", options);
  const layers: Descriptor[] = [];
  for (const [index, layer] of image.manifest.layers.entries()) {
    const ready = await travelForm(
      store,
      place,
      layer,
      image.config.rootfs.diff_ids[index]!,
      options,
      signal,
    );
    await upload(registry, ready.descriptor, ready.open, options, signal);
    layers.push(ready.descriptor);
  }
  const configBytes = readBlob(store, image.manifest.config.digest)!;
  await upload(registry, image.manifest.config, () => Readable.from([configBytes]), options, signal);
  const bytes = manifestBytes(store, image, layers);
  const digest = digestOf(bytes);
  await registry.request(
    {
      method: "PUT",
      path: `manifests/${target.tag}`,
      headers: { "content-type": image.manifest.mediaType ?? MEDIA.ociManifest },
      body: () => bytes,
    },
    signal,
  );
  return { digest, reference };
}

function manifestBytes(store: Store, image: StoredImage, layers: readonly Descriptor[]): Buffer {
  const same = layers.every((layer, index) => layer.digest === image.manifest.layers[index]!.digest);
  if (same) return readBlob(store, image.digest)!;
  const manifest: Manifest = { ...image.manifest, layers: [...layers] };
  return Buffer.from(JSON.stringify(manifest));
}

const DOCKER = "application/vnd.docker.";

export interface TravelForm {
  readonly descriptor: Descriptor;
  readonly open: () => Readable;
}

/** A layer as it goes over the network or into an archive. */
export async function travelForm(
  store: Store,
  place: Stage,
  layer: Descriptor,
  diffId: string,
  options: Pick<PushOptions, "onProgress">,
  signal?: AbortSignal,
): Promise<TravelForm> {
  if (hasBlob(store, layer.digest))
    return { descriptor: layer, open: () => createReadStream(blobPath(store, layer.digest)) };
  const totalBytes = readLayer(store, diffId)?.tarBytes ?? 0;
  options.onProgress?.({ type: "packing", digest: diffId, totalBytes });
  const path = join(place.path, diffId.slice("sha256:".length));
  const digest = await compressLayer(store, diffId, path, signal);
  const mediaType = layer.mediaType.startsWith(DOCKER) ? MEDIA.dockerGzip : MEDIA.ociGzip;
  const descriptor = { mediaType, digest, size: statSync(path).size };
  return { descriptor, open: () => createReadStream(path) };
}

/** Throws an AleError where the directory no longer gives the tar that the image is made of. */
async function compressLayer(
  store: Store,
  diffId: string,
  target: string,
  signal?: AbortSignal,
): Promise<Digest> {
  const [tar, gzip] = [createHash("sha256"), createHash("sha256")];
  await pipeline(
    async function* () {
      for await (const chunk of packLayer(layerPath(store, diffId), undefined, signal)) {
        tar.update(chunk);
        yield chunk;
      }
    },
    createGzip({ level: 6 }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        gzip.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(target),
    ...(signal === undefined ? [] : [{ signal }]),
  );
  if (`sha256:${tar.digest("hex")}` !== diffId)
    throw new AleError("blob-missing", `the original bytes of layer ${diffId} were not kept`, {
      next: "pull or import the image again",
    });
  return `sha256:${gzip.digest("hex")}`;
}

async function upload(
  registry: Registry,
  { digest, size }: Descriptor,
  open: () => Readable,
  options: PushOptions,
  signal?: AbortSignal,
): Promise<void> {
  const tell = (type: PushProgress["type"]): void => options.onProgress?.({ type, digest, totalBytes: size });
  const head = await registry.request({ method: "HEAD", path: `blobs/${digest}`, accept: [404] }, signal);
  if (head.ok) return tell("exists");
  tell("uploading");
  const begun = await registry.request(
    { method: "POST", path: "blobs/uploads/", headers: { "content-length": "0" } },
    signal,
  );
  await begun.body?.cancel();
  const location = begun.headers.get("location");
  if (location === null)
    throw new AleError("registry-refused", `${registry.host} gave no place to upload to`);
  const url = new URL(location, `${registry.base}/v2/`);
  url.searchParams.set("digest", digest);
  const done = await registry.request(
    {
      method: "PUT",
      path: url.href,
      headers: { "content-type": "application/octet-stream", "content-length": String(size) },
      body: open,
    },
    signal,
  );
  await done.body?.cancel();
  tell("done");
}
