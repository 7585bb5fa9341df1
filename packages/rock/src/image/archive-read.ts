import { closeSync, createReadStream, lstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { AleError } from "@ale/core";
import { readTar } from "./tar-read.ts";
import { compressionOfBytes } from "./unpack.ts";

/** The files of an archive of a stranger by the names that they have in it, whether it is a directory or a tar stream. */
export interface Archive {
  /** Where the bytes lie on this machine; undefined where there is no such regular file. */
  locate(name: string): string | undefined;
}

const LARGEST_DOCUMENT = 8 * 2 ** 20;
const MOST_FILES = 20_000;
const MOST_BYTES = 256 * 2 ** 30;

export function directoryArchive(root: string): Archive {
  return {
    locate: (name) => {
      if (name.split("/").some((part) => part === ".." || part === "")) return undefined;
      const path = join(root, name);
      return lstatSync(path, { throwIfNoEntry: false })?.isFile() ? path : undefined;
    },
  };
}

/** Spooled into `directory`, which is the caller's: names of the archive never become names of this machine. */
export async function tarArchive(
  source: AsyncIterable<Uint8Array>,
  directory: string,
  signal?: AbortSignal,
): Promise<Archive> {
  const files = new Map<string, string>();
  const links = new Map<string, string>();
  let bytes = 0;
  for await (const entry of readTar(maybeGunzip(source))) {
    signal?.throwIfAborted();
    const name = normal(entry.path);
    if (entry.type === "symlink" || entry.type === "link")
      links.set(name, normal(entry.type === "link" ? entry.linkname : `${name}/../${entry.linkname}`));
    if (entry.type !== "file") continue;
    if (files.size >= MOST_FILES || bytes + entry.size > MOST_BYTES)
      throw new AleError("archive-too-large", "the archive holds more than an image ever does");
    bytes += entry.size;
    const path = join(directory, `file-${files.size}`);
    await spool(entry.body(), path);
    files.set(name, path);
  }
  return { locate: (name) => files.get(normal(name)) ?? files.get(links.get(normal(name)) ?? "") };
}

function normal(name: string): string {
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

async function spool(bytes: AsyncIterable<Uint8Array>, path: string): Promise<void> {
  const fd = openSync(path, "wx", 0o600);
  try {
    for await (const chunk of bytes) for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
  } finally {
    closeSync(fd);
  }
}

async function* maybeGunzip(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done) return;
  const whole = async function* (): AsyncGenerator<Uint8Array> {
    yield first.value;
    yield* { [Symbol.asyncIterator]: () => iterator };
  };
  if (compressionOfBytes(first.value) !== "gzip") return yield* whole();
  const inflate = createGunzip();
  const input = Readable.from(whole(), { objectMode: false });
  input.on("error", (error) => inflate.destroy(error));
  input.pipe(inflate);
  try {
    yield* inflate as AsyncIterable<Uint8Array>;
  } finally {
    input.destroy();
  }
}

/** A small file of the archive. Throws an AleError where it is missing or no document. */
export function document(archive: Archive, name: string): Buffer {
  const path = archive.locate(name);
  if (path === undefined) throw archiveInvalid(`it has no ${name}`);
  if (lstatSync(path).size > LARGEST_DOCUMENT) throw archiveInvalid(`${name} is larger than 8 MiB`);
  return readFileSync(path);
}

export function archiveInvalid(why: string): AleError {
  return new AleError("archive-invalid", `this is no image archive: ${why}`, {
    next: "give a directory or a tar in the OCI layout, or what `docker save` or `podman save` writes",
  });
}

export function headOf(path: string): Buffer {
  const fd = openSync(path, "r");
  try {
    const head = Buffer.alloc(8);
    return head.subarray(0, readSync(fd, head));
  } finally {
    closeSync(fd);
  }
}

export const openFile = (path: string): AsyncIterable<Uint8Array> =>
  createReadStream(path, { highWaterMark: 1 << 18 }) as AsyncIterable<Uint8Array>;
