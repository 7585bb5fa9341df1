import { createHash } from "node:crypto";
import { createReadStream, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { AleError } from "@ale/core";
import { applyLayer } from "./layer-apply.ts";
import { keepDirectory, keepLayer, type LayerRecord, readLayer } from "./layers.ts";
import type { Compression } from "./manifest.ts";
import { hexOf, lock, type Store, stage } from "./store.ts";
import { tarInvalid } from "./tar-read.ts";

/** From the bytes of a layer as they travel to a layer of the store. */

/** A layer larger than this unpacked is refused: 64 GiB of tar. */
const LARGEST_TAR = 64 * 2 ** 30;

/** What makes the bytes, asked only where the layer is not there yet. */
export interface LayerSource {
  readonly compression: Compression;
  open(signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>> | AsyncIterable<Uint8Array>;
}

/** Unpacks once, however many ask at the same time. Throws an AleError `digest-mismatch` where the tar is not the one that was promised. */
export async function ensureLayer(
  store: Store,
  diffId: string,
  source: LayerSource,
  signal?: AbortSignal,
): Promise<LayerRecord> {
  const before = readLayer(store, diffId);
  if (before !== undefined) return before;
  using _ = await lock(store, `layer-${hexOf(diffId).slice(0, 32)}`, signal);
  const meanwhile = readLayer(store, diffId);
  if (meanwhile !== undefined) return meanwhile;
  return await unpackLayer(store, await source.open(signal), source.compression, diffId, signal);
}

/** The same without an expected digest: whatever the tar is, it becomes a layer. */
export async function unpackLayer(
  store: Store,
  bytes: AsyncIterable<Uint8Array>,
  compression: Compression,
  expected: string | undefined,
  signal?: AbortSignal,
): Promise<LayerRecord> {
  using place = stage(store);
  const directory = join(place.path, "diff");
  mkdirSync(directory, { mode: 0o755 });
  const hash = createHash("sha256");
  const seen = { tarBytes: 0 };
  const tar = hashed(decompress(bytes, compression), hash, seen);
  const report = await applyLayer(tar, directory, signal === undefined ? {} : { signal });
  const diffId = `sha256:${hash.digest("hex")}`;
  if (expected !== undefined && diffId !== expected)
    throw new AleError(
      "digest-mismatch",
      `a layer unpacks to ${diffId}, but the image's configuration says ${expected}`,
      { next: "do not use this image: its registry or its maker is at fault" },
    );
  const record = { diffId, tarBytes: seen.tarBytes, ...report };
  keepLayer(store, place, record);
  return record;
}

/**
 * A tar of our own making, or a sandbox's, becomes a layer that can be packed again to the same bytes: its digest is that of what lies in
 * the store, whatever the tar looked like.
 */
export async function makeLayer(
  store: Store,
  tar: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<LayerRecord> {
  using place = stage(store);
  const directory = join(place.path, "diff");
  mkdirSync(directory, { mode: 0o755 });
  await applyLayer(tar, directory, signal === undefined ? {} : { signal });
  return await keepDirectory(store, place, signal);
}

async function* hashed(
  bytes: AsyncIterable<Uint8Array>,
  hash: { update(chunk: Uint8Array): unknown },
  seen: { tarBytes: number },
): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    seen.tarBytes += chunk.length;
    if (seen.tarBytes > LARGEST_TAR)
      throw new AleError("layer-too-large", `the layer unpacks to more than ${LARGEST_TAR} bytes`);
    hash.update(chunk);
    yield chunk;
  }
}

/** The bytes of a layer without their compression. Throws an AleError `tar-invalid` for a damaged stream. */
export async function* decompress(
  bytes: AsyncIterable<Uint8Array>,
  compression: Compression,
): AsyncGenerator<Uint8Array> {
  if (compression === "none") return yield* bytes;
  const inflate = compression === "gzip" ? createGunzip() : createZstdDecompress();
  const source = Readable.from(bytes, { objectMode: false });
  source.on("error", (error) => inflate.destroy(error));
  source.pipe(inflate);
  try {
    yield* inflate as AsyncIterable<Uint8Array>;
  } catch (error) {
    if (error instanceof Error && /^(Z_|ERR_ZSTD|ZSTD_)/.test((error as NodeJS.ErrnoException).code ?? ""))
      throw tarInvalid(`its ${compression} stream is damaged`);
    throw error;
  } finally {
    source.destroy();
    inflate.destroy();
  }
}

const MAGIC = { gzip: [0x1f, 0x8b], zstd: [0x28, 0xb5, 0x2f, 0xfd] } as const;

/** By the first bytes, for archives that do not say. */
export function compressionOfBytes(head: Uint8Array): Compression {
  const begins = (magic: readonly number[]): boolean => magic.every((byte, index) => head[index] === byte);
  return begins(MAGIC.gzip) ? "gzip" : begins(MAGIC.zstd) ? "zstd" : "none";
}

export const fileSource = (path: string, compression: Compression): LayerSource => ({
  compression,
  open: () => createReadStream(path) as AsyncIterable<Uint8Array>,
});
