import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  createReadStream,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { z } from "zod";
import { Limiter } from "../host/limiter.ts";
import type { LocalImage } from "./local-image.ts";
import {
  Config,
  compressionOf,
  type Descriptor,
  hostPlatform,
  Index,
  Manifest,
  MEDIA,
  parseDocument,
} from "./manifest.ts";
import { setName } from "./names.ts";
import { canonicalName, parseReference, type Reference } from "./reference.ts";
import { bounded, Registry, type RegistryOptions } from "./registry.ts";
import {
  blobPath,
  clearDeadStages,
  digestOf,
  hasBlob,
  hexOf,
  holdStore,
  lock,
  openStore,
  readBlob,
  removeFile,
  type Store,
  writeBlob,
  writeFailure,
} from "./store.ts";
import { loadImage, localImageOf } from "./stored-image.ts";
import { ensureLayer, fileSource } from "./unpack.ts";

/** Images from a registry into the store. Every byte is checked against the digest that asked for it before it means anything. */

export interface PullProgress {
  readonly type: "manifest" | "cached" | "downloading" | "unpacking" | "done";
  /** Of the layer or manifest. */
  readonly digest: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface PullOptions extends RegistryOptions {
  /** E.g. "linux/arm64" or "linux/arm/v7". Default: this machine's. */
  readonly platform?: string;
  /** Layers fetched at the same time. Default: 3. */
  readonly concurrency?: number;
  readonly onProgress?: (progress: PullProgress) => void;
}

const LARGEST_DOCUMENT = 8 * 2 ** 20;
const ACCEPT = [MEDIA.ociIndex, MEDIA.ociManifest, MEDIA.dockerList, MEDIA.dockerManifest].join(", ");

/**
 * Makes `reference` a local image. Layers that are here already are not fetched again; what was fetched before an interruption is not
 * fetched twice. Throws an AleError that names what is wrong: reference, network, rights, digest, media type, platform or disk.
 */
export async function pullImage(
  home: string,
  reference: string,
  options: PullOptions = {},
  signal?: AbortSignal,
): Promise<LocalImage> {
  const wanted = parseReference(reference);
  const store = openStore(home);
  using _ = await holdStore(store, signal);
  clearDeadStages(store);
  let failure: unknown;
  for (const registry of [...(options.mirrors?.[wanted.registry] ?? []), wanted.registry]) {
    try {
      // A mirror is another host: the credentials of the registry are not for it.
      const { auth, ...rest } = options;
      const mine = registry === wanted.registry && auth !== undefined ? { ...rest, auth } : rest;
      const digest = await new Pull(store, { ...wanted, registry }, mine, signal).run();
      setName(store, reference, { type: "image", manifest: digest });
      return localImageOf(store, reference, loadImage(store, digest)!);
    } catch (error) {
      signal?.throwIfAborted();
      failure = error;
    }
  }
  throw writeFailure(failure, `${canonicalName(reference)} was pulled`);
}

class Pull {
  readonly #store: Store;
  readonly #reference: Reference;
  readonly #options: PullOptions;
  readonly #registry: Registry;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;

  constructor(store: Store, reference: Reference, options: PullOptions, signal?: AbortSignal) {
    this.#store = store;
    this.#reference = reference;
    this.#options = options;
    this.#registry = new Registry(reference, "pull", options);
    this.#signal = signal === undefined ? this.#abort.signal : AbortSignal.any([signal, this.#abort.signal]);
  }

  async run() {
    const { digest: pinned, tag } = this.#reference;
    let bytes = await this.#document(`manifests/${pinned ?? tag}`, pinned, ACCEPT);
    if (isIndex(bytes)) {
      const chosen = this.#choose(parseDocument(Index, bytes, "the image index"));
      bytes = await this.#document(`manifests/${chosen.digest}`, chosen.digest, ACCEPT);
    }
    const manifest = parseDocument(Manifest, bytes, "the manifest");
    this.#tell("manifest", digestOf(bytes), bytes.length, bytes.length);
    const configBytes =
      readBlob(this.#store, manifest.config.digest) ??
      (await this.#document(`blobs/${manifest.config.digest}`, manifest.config.digest));
    const config = parseDocument(Config, configBytes, "the image's configuration");
    if (config.rootfs.diff_ids.length !== manifest.layers.length)
      throw new AleError("image-invalid", "the manifest and the configuration disagree about the layers");
    // Before the first byte is fetched.
    for (const layer of manifest.layers) compressionOf(layer.mediaType);
    await this.#layers(manifest.layers, config.rootfs.diff_ids);
    writeBlob(this.#store, configBytes);
    return writeBlob(this.#store, bytes);
  }

  #tell(type: PullProgress["type"], digest: string, doneBytes: number, totalBytes: number): void {
    this.#options.onProgress?.({ type, digest, doneBytes, totalBytes });
  }

  /** A manifest or configuration, whose digest is known or becomes known. */
  async #document(path: string, expected: string | undefined, accept?: string): Promise<Buffer> {
    const headers: Record<string, string> = accept === undefined ? {} : { accept };
    const response = await this.#registry.request({ path, headers }, this.#signal);
    const bytes = await bounded(response, LARGEST_DOCUMENT);
    const promised = expected ?? response.headers.get("docker-content-digest");
    if (promised?.startsWith("sha256:") && digestOf(bytes) !== promised)
      throw mismatch(this.#registry.host, promised, digestOf(bytes));
    return bytes;
  }

  #choose(index: Index): Descriptor {
    const platform = this.#options.platform ?? hostPlatform();
    const [os, architecture, variant] = platform.split("/");
    const real = index.manifests.filter((one) => one.platform?.architecture !== "unknown");
    const fitting = real.filter(
      ({ platform: its }) =>
        its === undefined ||
        (its.os === os &&
          its.architecture === architecture &&
          (variant === undefined || its.variant === undefined || its.variant === variant)),
    );
    const exact = fitting.find((one) => one.platform?.variant === variant);
    const chosen = exact ?? fitting[0];
    if (chosen !== undefined) return chosen;
    const offered = real.map(({ platform: its }) =>
      [its?.os, its?.architecture, its?.variant].filter((part) => part !== undefined).join("/"),
    );
    throw new AleError("platform-missing", `the image does not exist for ${platform}`, {
      next: `choose one of ${[...new Set(offered)].join(", ")} with --platform`,
    });
  }

  /** Bounded, and all of them end before this does, whatever becomes of one. */
  async #layers(layers: readonly Descriptor[], diffIds: readonly string[]): Promise<void> {
    const limiter = new Limiter(this.#options.concurrency ?? 3);
    const results = await Promise.allSettled(
      layers.map((layer, index) =>
        limiter
          .run(() => this.#layer(layer, diffIds[index]!), this.#signal)
          .catch((error: unknown) => {
            this.#abort.abort(error);
            throw error;
          }),
      ),
    );
    const failed = results.find((result) => result.status === "rejected");
    // The first failure aborts the others; the reason says which it was.
    if (failed !== undefined) throw this.#signal.reason ?? failed.reason;
  }

  async #layer(layer: Descriptor, diffId: string): Promise<void> {
    const { digest, size } = layer;
    const compression = compressionOf(layer.mediaType);
    let fetched = false;
    await ensureLayer(
      this.#store,
      diffId,
      {
        compression,
        open: async () => {
          fetched = true;
          await this.#blob(layer);
          this.#tell("unpacking", digest, size, size);
          return fileSource(blobPath(this.#store, digest), compression).open();
        },
      },
      this.#signal,
    );
    this.#tell(fetched ? "done" : "cached", digest, size, size);
  }

  async #blob(layer: Descriptor): Promise<void> {
    const { digest } = layer;
    using _blob = await lock(this.#store, `blob-${hexOf(digest).slice(0, 32)}`, this.#signal);
    if (hasBlob(this.#store, digest)) return;
    const partial = join(this.#store.root, "partial", hexOf(digest));
    mkdirSync(join(partial, ".."), { recursive: true, mode: 0o700 });
    await this.#download(layer, partial);
    const actual = await digestOfFile(partial);
    if (actual !== digest) {
      removeFile(partial);
      throw mismatch(this.#registry.host, digest, actual);
    }
    mkdirSync(join(blobPath(this.#store, digest), ".."), { recursive: true });
    renameSync(partial, blobPath(this.#store, digest));
  }

  /** Goes on where an earlier attempt stopped, also that of a process that is gone. */
  async #download(layer: Descriptor, partial: string): Promise<void> {
    const attempts = this.#options.attempts ?? 4;
    for (let attempt = 1; ; attempt++) {
      const have = statSync(partial, { throwIfNoEntry: false })?.size ?? 0;
      if (have === layer.size && have > 0) return;
      try {
        await this.#fetchInto(layer, partial, have > layer.size ? 0 : have);
        return;
      } catch (error) {
        this.#signal.throwIfAborted();
        // What can be resumed is kept, but not at the price of a full disk.
        if (isDiskError(error)) removeFile(partial);
        if (attempt >= attempts || error instanceof AleError || isDiskError(error)) throw error;
      }
    }
  }

  async #fetchInto(layer: Descriptor, partial: string, from: number): Promise<void> {
    const { digest, size } = layer;
    const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
    const response = await this.#registry.request(
      { path: `blobs/${digest}`, headers, accept: [416] },
      this.#signal,
    );
    const resumed = response.status === 206;
    if (response.status === 416) {
      await response.body?.cancel();
      removeFile(partial);
      throw new Error("the registry does not resume");
    }
    const { O_WRONLY, O_CREAT, O_TRUNC, O_APPEND } = constants;
    const fd = openSync(partial, O_WRONLY | O_CREAT | (resumed ? O_APPEND : O_TRUNC), 0o600);
    let done = resumed ? from : 0;
    try {
      for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        done += chunk.length;
        if (done > size) throw mismatch(this.#registry.host, digest, `more than ${size} bytes`);
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
        this.#tell("downloading", digest, done, size);
      }
      fsyncSync(fd);
    } catch (error) {
      if (error instanceof AleError) removeFile(partial);
      throw error;
    } finally {
      closeSync(fd);
    }
    if (done < size) throw new Error(`the registry sent ${done} of ${size} bytes`);
  }
}

function isIndex(bytes: Buffer): boolean {
  const document = parseDocument(Document, bytes, "the registry's answer");
  if (document.schemaVersion === 1)
    throw new AleError(
      "media-unsupported",
      "the registry only has the image in the format of 2014 (schema 1)",
      {
        next: "push the image again with a current tool",
      },
    );
  return document.manifests !== undefined;
}

const Document = z.looseObject({ schemaVersion: z.number().optional(), manifests: z.unknown().optional() });

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return `sha256:${hash.digest("hex")}`;
}

const isDiskError = (error: unknown): boolean =>
  ["ENOSPC", "EDQUOT", "EROFS", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "");

function mismatch(host: string, promised: string, actual: string): AleError {
  return new AleError("digest-mismatch", `${host} sent ${actual} where ${promised} was asked for`, {
    next: "try again; if it happens again, the registry or something on the way to it changes what it sends",
  });
}
