import { AleError } from "@ale/core";
import { layerPath, readLayer } from "./layers.ts";
import type { LocalImage } from "./local-image.ts";
import {
  Config,
  compressionOf,
  type Descriptor,
  imageConfigOf,
  Manifest,
  MEDIA,
  parseDocument,
} from "./manifest.ts";
import { type Digest, readBlob, type Store, writeBlob } from "./store.ts";

/** An image of the store: its manifest and configuration. Its layers are there by the time that it is. */

export interface StoredImage {
  /** Of the manifest. */
  readonly digest: Digest;
  readonly manifest: Manifest;
  readonly config: Config;
}

/** Undefined where the manifest or the configuration is missing. */
export function loadImage(store: Store, digest: Digest): StoredImage | undefined {
  const bytes = readBlob(store, digest);
  if (bytes === undefined) return undefined;
  const manifest = parseDocument(Manifest, bytes, `the manifest ${digest}`);
  const configBytes = readBlob(store, manifest.config.digest);
  if (configBytes === undefined) return undefined;
  const config = parseDocument(Config, configBytes, `the configuration ${manifest.config.digest}`);
  return { digest, manifest, config };
}

/**
 * Keeps the manifest of an image that was made here above the layers of another one, or of none. Its own layers are named by their
 * uncompressed tar, which can be made again from the unpacked directory at any time and therefore need not be kept; those below keep the
 * name under which their bytes are there.
 */
export function keepImage(
  store: Store,
  config: Config,
  layerSizes: readonly number[],
  below: readonly Descriptor[] = [],
): StoredImage {
  const configBytes = Buffer.from(JSON.stringify(config));
  const layers = config.rootfs.diff_ids.map((digest, index): Descriptor => {
    const known = below[index];
    if (known !== undefined) return { ...known, mediaType: ociTypeOf(known.mediaType) };
    return { mediaType: MEDIA.ociTar, digest, size: layerSizes[index] ?? 0 };
  });
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: {
      mediaType: MEDIA.ociConfig,
      digest: writeBlob(store, configBytes),
      size: configBytes.length,
    },
    layers,
  };
  return { digest: writeBlob(store, JSON.stringify(manifest)), manifest, config };
}

/** The same bytes under the name that belongs into an OCI manifest. */
const OCI_TYPES = { none: MEDIA.ociTar, gzip: MEDIA.ociGzip, zstd: MEDIA.ociZstd } as const;
const ociTypeOf = (mediaType: string): string => OCI_TYPES[compressionOf(mediaType)];

/** As sandboxes use it. Throws an AleError where a layer is missing. */
export function localImageOf(store: Store, name: string, image: StoredImage): LocalImage {
  const { diff_ids: diffIds } = image.config.rootfs;
  const missing = diffIds.find((diffId) => readLayer(store, diffId) === undefined);
  if (missing !== undefined)
    throw new AleError("image-incomplete", `layer ${missing} of ${name} is missing from the store`, {
      next: `run \`ale rock image pull ${name}\` or make the image again`,
    });
  return {
    name,
    digest: image.digest,
    layers: diffIds.map((diffId) => layerPath(store, diffId)).reverse(),
    config: imageConfigOf(image.config),
  };
}
