import { createHash } from "node:crypto";
import { copyFileSync, createWriteStream, mkdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { AleError } from "@ale/core";
import { z } from "zod";
import {
  type Archive,
  archiveInvalid,
  directoryArchive,
  document,
  headOf,
  openFile,
  tarArchive,
} from "./archive-read.ts";
import type { LocalImage } from "./local-image.ts";
import {
  type Compression,
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
import { canonicalName } from "./reference.ts";
import {
  blobPath,
  clearDeadStages,
  type Digest,
  digestOf,
  hasBlob,
  hexOf,
  holdStore,
  openStore,
  type Stage,
  type Store,
  stage,
  writeBlob,
  writeFailure,
} from "./store.ts";
import { loadImage, localImageOf } from "./stored-image.ts";
import { compressionOfBytes, ensureLayer, fileSource } from "./unpack.ts";

/** Images out of files: OCI layouts (directory or tar) and what `docker save` and `podman save` write. */

export interface ImportOptions {
  /** What it is called here. Default: as in the archive. */
  readonly name?: string | undefined;
  /** Which image, where the archive holds several: its name in the archive. Default: the only one, else the one called like `name`. */
  readonly image?: string;
  /** Default: this machine's. */
  readonly platform?: string;
}

/** Makes the archive's image a local one. Throws an AleError; then nothing has changed. */
export async function importImage(
  home: string,
  source: string | AsyncIterable<Uint8Array>,
  options: ImportOptions = {},
  signal?: AbortSignal,
): Promise<LocalImage> {
  if (options.name !== undefined) canonicalName(options.name);
  const store = openStore(home);
  using _ = await holdStore(store, signal);
  clearDeadStages(store);
  using place = stage(store);
  try {
    const archive = await openArchive(source, place.path, signal);
    const work = { store, place, archive, options };
    const { manifest, name } =
      archive.locate("index.json") === undefined
        ? await importDocker(work, signal)
        : await importLayout(work, signal);
    setName(store, name, { type: "image", manifest });
    return localImageOf(store, name, loadImage(store, manifest)!);
  } catch (error) {
    throw writeFailure(error, `${options.name ?? "the image"} was imported`);
  }
}

interface Work {
  readonly store: Store;
  readonly place: Stage;
  readonly archive: Archive;
  readonly options: ImportOptions;
}

interface Imported {
  readonly manifest: Digest;
  readonly name: string;
}

async function openArchive(
  source: string | AsyncIterable<Uint8Array>,
  directory: string,
  signal?: AbortSignal,
): Promise<Archive> {
  if (typeof source !== "string") return await tarArchive(source, directory, signal);
  const stat = statSync(source, { throwIfNoEntry: false });
  if (stat === undefined) throw new AleError("archive-missing", `there is no file or directory ${source}`);
  return stat.isDirectory()
    ? directoryArchive(source)
    : await tarArchive(openFile(source), directory, signal);
}

const DockerManifest = z.array(
  z.looseObject({
    Config: z.string(),
    RepoTags: z.array(z.string()).nullish(),
    Layers: z.array(z.string()),
  }),
);

async function importDocker(work: Work, signal?: AbortSignal): Promise<Imported> {
  const { store, archive } = work;
  const all = parseDocument(DockerManifest, document(archive, "manifest.json"), "manifest.json");
  const { value: chosen, name } = choose(
    work.options,
    all.map((one) => ({ value: one, names: one.RepoTags ?? [] })),
  );
  const configBytes = document(archive, chosen.Config);
  const config = parseDocument(Config, configBytes, "the image's configuration");
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== chosen.Layers.length)
    throw archiveInvalid("manifest.json and the configuration disagree about the layers");
  const layers: Descriptor[] = [];
  for (const [index, name] of chosen.Layers.entries()) {
    const path = archive.locate(name);
    if (path === undefined) throw archiveInvalid(`it has no ${name}`);
    const compression = compressionOfBytes(headOf(path));
    await ensureLayer(store, diffIds[index]!, fileSource(path, compression), signal);
    layers.push(await keepCompressed(work, path, compression, signal));
  }
  const digest = writeBlob(store, configBytes);
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest, size: configBytes.length },
    layers,
  };
  return { manifest: writeBlob(store, JSON.stringify(manifest)), name };
}

/** The layer's bytes, kept so that the image can be handed on unchanged. */
async function keepCompressed(
  { store, place }: Work,
  path: string,
  compression: Compression,
  signal?: AbortSignal,
): Promise<Descriptor> {
  const hash = createHash("sha256");
  const target = join(place.path, "compressed");
  const squeeze = compression === "none" ? createGzip({ level: 6 }) : new PassThrough();
  await pipeline(
    openFile(path),
    squeeze,
    async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(target),
    ...(signal === undefined ? [] : [{ signal }]),
  );
  const digest: Digest = `sha256:${hash.digest("hex")}`;
  const size = statSync(target).size;
  keepBlob(store, target, digest);
  return { mediaType: compression === "zstd" ? MEDIA.ociZstd : MEDIA.ociGzip, digest, size };
}

function keepBlob(store: Store, path: string, digest: Digest): void {
  mkdirSync(join(blobPath(store, digest), ".."), { recursive: true });
  renameSync(path, blobPath(store, digest));
}

async function importLayout(work: Work, signal?: AbortSignal): Promise<Imported> {
  const { store, archive } = work;
  const index = parseDocument(Index, document(archive, "index.json"), "index.json");
  const named = index.manifests.map((one) => ({
    value: one as Descriptor,
    names: Object.entries(one.annotations ?? {}).flatMap(([key, value]) =>
      ["org.opencontainers.image.ref.name", "io.containerd.image.name"].includes(key) ? [value] : [],
    ),
  }));
  const ours = index.manifests.filter((one) => fits(one.platform, work.options.platform));
  const candidates = ours.length > 0 ? named.filter(({ value }) => ours.includes(value as never)) : named;
  const chosen = choose(work.options, candidates);
  let bytes = blob(archive, chosen.value.digest);
  // An image for several platforms is an index of its own.
  for (let depth = 0; depth < 4 && isIndex(bytes); depth++) {
    const inner = parseDocument(Index, bytes, "the image index").manifests;
    const fitting = inner.find((one) => fits(one.platform, work.options.platform));
    if (fitting === undefined)
      throw new AleError("platform-missing", "the archive's image does not exist for this platform", {
        next: "choose another one with --platform",
      });
    bytes = blob(archive, fitting.digest);
  }
  const manifest = parseDocument(Manifest, bytes, "the manifest");
  const configBytes = blob(archive, manifest.config.digest);
  const config = parseDocument(Config, configBytes, "the image's configuration");
  if (config.rootfs.diff_ids.length !== manifest.layers.length)
    throw archiveInvalid("the manifest and the configuration disagree about the layers");
  for (const [place, layer] of manifest.layers.entries())
    await importBlob(work, layer, config.rootfs.diff_ids[place]!, signal);
  writeBlob(store, configBytes);
  return { manifest: writeBlob(store, bytes), name: chosen.name };
}

async function importBlob(
  work: Work,
  layer: Descriptor,
  diffId: string,
  signal?: AbortSignal,
): Promise<void> {
  const { store, archive, place } = work;
  const compression = compressionOf(layer.mediaType);
  const path = archive.locate(`blobs/sha256/${hexOf(layer.digest)}`);
  if (path === undefined) throw archiveInvalid(`it has no blob ${layer.digest}`);
  if (!hasBlob(store, layer.digest)) {
    const copy = join(place.path, "blob");
    copyFileSync(path, copy);
    const hash = createHash("sha256");
    for await (const chunk of openFile(copy)) hash.update(chunk);
    const actual = `sha256:${hash.digest("hex")}`;
    if (actual !== layer.digest)
      throw new AleError("digest-mismatch", `the archive's blob ${layer.digest} has the bytes of ${actual}`, {
        next: "make or fetch the archive again",
      });
    keepBlob(store, copy, layer.digest as Digest);
  }
  await ensureLayer(store, diffId, fileSource(blobPath(store, layer.digest), compression), signal);
}

function blob(archive: Archive, digest: string): Buffer {
  const bytes = document(archive, `blobs/sha256/${hexOf(digest)}`);
  if (digestOf(bytes) !== digest)
    throw new AleError("digest-mismatch", `the archive's blob ${digest} has other bytes`);
  return bytes;
}

const isIndex = (bytes: Buffer): boolean =>
  parseDocument(z.looseObject({ manifests: z.unknown().optional() }), bytes, "a document of the archive")
    .manifests !== undefined;

function fits(
  platform: { readonly os: string; readonly architecture: string } | undefined,
  wanted: string = hostPlatform(),
): boolean {
  const [os, architecture] = wanted.split("/");
  return platform === undefined || (platform.os === os && platform.architecture === architecture);
}

interface Candidate<T> {
  readonly value: T;
  readonly names: readonly string[];
}

interface Chosen<T> {
  readonly value: T;
  readonly name: string;
}

function choose<T>({ name, image }: ImportOptions, candidates: readonly Candidate<T>[]): Chosen<T> {
  const wanted = image ?? (candidates.length > 1 ? name : undefined);
  const chosen = ({ value, names }: Candidate<T>): Chosen<T> => ({ value, name: name ?? ownName(names) });
  if (wanted === undefined && candidates.length === 1) return chosen(candidates[0]!);
  const same = (one: string): boolean => one === wanted || plain(one) === plain(wanted ?? "");
  const found = candidates.find(({ names }) => names.some(same));
  if (wanted !== undefined && found !== undefined) return chosen(found);
  const offered = candidates.flatMap(({ names }) => names);
  const why = wanted === undefined ? `holds ${candidates.length} images` : `has no image called ${wanted}`;
  throw new AleError("archive-ambiguous", `the archive ${why}`, {
    next:
      offered.length > 0 ? `choose one of ${offered.join(", ")} with --image` : "its images have no names",
  });
}

/** Its first name that is more than a tag: tools write `latest` alone into an OCI layout. Throws an AleError `archive-nameless`. */
function ownName(names: readonly string[]): string {
  for (const one of names) {
    const name = one.replace(/^localhost\//, "");
    if (!/[/:]/.test(name)) continue;
    canonicalName(name);
    return name;
  }
  throw new AleError("archive-nameless", "the archive does not say what its image is called", {
    next: "give it a name: ale rock image import FILE NAME",
  });
}

/** What `podman save` calls localhost/name is name. */
function plain(name: string): string {
  try {
    return canonicalName(name.replace(/^localhost\//, ""));
  } catch {
    return name;
  }
}
