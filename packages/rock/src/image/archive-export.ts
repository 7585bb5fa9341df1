import { createReadStream, createWriteStream, existsSync, mkdirSync, renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { AleError } from "@ale/core";
import { removeTree } from "../host/mounts.ts";
import { storedImage } from "./find-image.ts";
import { packLayer } from "./layer-pack.ts";
import { layerPath, readLayer } from "./layers.ts";
import { compressionOf, type Descriptor, MEDIA } from "./manifest.ts";
import { travelForm } from "./push.ts";
import { canonicalName } from "./reference.ts";
import {
  blobPath,
  digestOf,
  hasBlob,
  hexOf,
  holdStore,
  openStore,
  readBlob,
  type Stage,
  type Store,
  stage,
} from "./store.ts";
import type { StoredImage } from "./stored-image.ts";
import { END_OF_TAR, encodeHeader, padding } from "./tar-write.ts";
import { decompress } from "./unpack.ts";

/** Images into files that other tools read. */

export type ExportFormat = "docker-archive" | "oci-archive" | "oci-layout";

export interface ExportOptions {
  /** `oci-layout` is a directory, the others are tars. Default: docker-archive, which `docker load` and `podman load` read. */
  readonly format?: ExportFormat;
}

/** A file of the archive. */
interface Part {
  readonly name: string;
  readonly size: number;
  readonly open: () => AsyncIterable<Uint8Array>;
}

/** Writes to a path that does not exist yet; there is a whole archive or none. Throws an AleError. */
export async function exportImage(
  home: string,
  name: string,
  target: string,
  options: ExportOptions = {},
  signal?: AbortSignal,
): Promise<void> {
  if (existsSync(target))
    throw new AleError("target-exists", `${target} exists already`, {
      next: "choose another path, or remove it",
    });
  if (!existsSync(dirname(target)))
    throw new AleError("target-missing", `there is no directory ${dirname(target)}`, {
      next: "make it first, or choose another path",
    });
  const store = openStore(home);
  using _ = await holdStore(store, signal);
  using place = stage(store);
  const image = await storedImage(home, name, signal);
  const format = options.format ?? "docker-archive";
  const parts =
    format === "docker-archive"
      ? dockerParts(store, image, name, signal)
      : ociParts(store, place, image, name, signal);
  const fresh = join(dirname(target), `.${basename(target)}.${process.pid}.part`);
  try {
    if (format === "oci-layout") await writeDirectory(fresh, parts, signal);
    else
      await pipeline(Readable.from(tarOf(parts)), createWriteStream(fresh), ...(signal ? [{ signal }] : []));
    renameSync(fresh, target);
  } finally {
    removeTree(fresh);
  }
}

async function writeDirectory(root: string, parts: AsyncIterable<Part>, signal?: AbortSignal): Promise<void> {
  for await (const part of parts) {
    const path = join(root, part.name);
    mkdirSync(dirname(path), { recursive: true });
    await pipeline(Readable.from(part.open()), createWriteStream(path), ...(signal ? [{ signal }] : []));
  }
}

async function* tarOf(parts: AsyncIterable<Part>): AsyncGenerator<Uint8Array> {
  for await (const { name, size, open } of parts) {
    yield encodeHeader({ path: name, type: "file", mode: 0o644, uid: 0, gid: 0, size, mtime: 0 });
    let written = 0;
    for await (const chunk of open()) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== size) throw new Error(`${name} has ${written} bytes instead of ${size}`);
    yield padding(size);
  }
  yield END_OF_TAR;
}

const bytesPart = (name: string, bytes: Buffer): Part => ({
  name,
  size: bytes.length,
  open: async function* () {
    yield bytes;
  },
});

const jsonPart = (name: string, value: unknown): Part => bytesPart(name, Buffer.from(JSON.stringify(value)));

async function* dockerParts(
  store: Store,
  image: StoredImage,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Part> {
  const config = `${hexOf(image.manifest.config.digest)}.json`;
  yield bytesPart(config, readBlob(store, image.manifest.config.digest)!);
  const layers: string[] = [];
  for (const [index, diffId] of image.config.rootfs.diff_ids.entries()) {
    const layer = `${hexOf(diffId)}.tar`;
    // The same layer twice is one file.
    if (!layers.includes(layer))
      yield {
        name: layer,
        size: readLayer(store, diffId)!.tarBytes,
        open: () => plainTar(store, image.manifest.layers[index]!, diffId, signal),
      };
    layers.push(layer);
  }
  yield jsonPart("manifest.json", [{ Config: config, RepoTags: [tagOf(name)], Layers: layers }]);
}

function plainTar(
  store: Store,
  layer: Descriptor,
  diffId: string,
  signal?: AbortSignal,
): AsyncIterable<Uint8Array> {
  if (!hasBlob(store, layer.digest)) return packLayer(layerPath(store, diffId), undefined, signal);
  return decompress(createReadStream(blobPath(store, layer.digest)), compressionOf(layer.mediaType));
}

/** An archive holds tags only; a name with a digest is exported without one. */
const tagOf = (name: string): string => canonicalName(name.replace(/@.*$/, ""));

async function* ociParts(
  store: Store,
  place: Stage,
  image: StoredImage,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Part> {
  yield jsonPart("oci-layout", { imageLayoutVersion: "1.0.0" });
  const layers: Descriptor[] = [];
  for (const [index, layer] of image.manifest.layers.entries()) {
    const { descriptor, open } = await travelForm(
      store,
      place,
      layer,
      image.config.rootfs.diff_ids[index]!,
      {},
      signal,
    );
    if (!layers.some((one) => one.digest === descriptor.digest))
      yield { name: blobName(descriptor.digest), size: descriptor.size, open };
    layers.push(descriptor);
  }
  yield bytesPart(blobName(image.manifest.config.digest), readBlob(store, image.manifest.config.digest)!);
  const same = layers.every((layer, index) => layer.digest === image.manifest.layers[index]!.digest);
  const bytes = same
    ? readBlob(store, image.digest)!
    : Buffer.from(JSON.stringify({ ...image.manifest, layers }));
  const digest = digestOf(bytes);
  yield bytesPart(blobName(digest), bytes);
  const mediaType = image.manifest.mediaType ?? MEDIA.ociManifest;
  const annotations = { "org.opencontainers.image.ref.name": tagOf(name) };
  yield jsonPart("index.json", {
    schemaVersion: 2,
    mediaType: MEDIA.ociIndex,
    manifests: [{ mediaType, digest, size: bytes.length, annotations }],
  });
}

const blobName = (digest: string): string => `blobs/sha256/${hexOf(digest)}`;
