import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { fromSource, SourceFailed } from "./content.ts";
import { errnoOf, fileError, Refusal } from "./errors.ts";
import { type Access, Handle } from "./handle.ts";
import { findOrMakeDirectory, type Ids } from "./located.ts";
import { BLOCK } from "./tar-header.ts";
import { bad, type UnpackEntry, Unpacker } from "./unpack.ts";

/**
 * A tar archive (plain or gzip, which is told by its first bytes) put below a directory of a sandbox as it arrives. It may come from anywhere.
 * Owners in it do not count, nor do permissions beyond rwx and the sticky bit.
 */

export interface UnpackOptions {
  /** Leaves out the first name of every path: what lies in the archive's only directory is then put into this one. */
  readonly strip?: boolean;
}

export interface Uploaded {
  readonly entries: number;
  readonly bytes: number;
}

/** Throws a Refusal that says how many entries are in place where not all are. */
export async function unpackInto(
  access: Access,
  path: string,
  source: AsyncIterable<Uint8Array>,
  ids: Ids,
  options: UnpackOptions = {},
): Promise<Uploaded> {
  const fd = findOrMakeDirectory(access.tree, path, ids, 0o755);
  using base = new Handle(access, fd, path);
  return base.use(async () => {
    using unpacker = new Unpacker(access, fd, path, ids);
    try {
      await unpackAll(unpacker, path, source, options.strip === true);
    } catch (error) {
      throw withCount(error, path, unpacker);
    }
    return { entries: unpacker.entries, bytes: unpacker.bytes };
  });
}

async function unpackAll(
  unpacker: Unpacker,
  path: string,
  source: AsyncIterable<Uint8Array>,
  strip: boolean,
): Promise<void> {
  const end = new EndMark();
  const archive = extract();
  // Its failure is also that of the entries, where it is met.
  const pumped = pipeline(Readable.from(end.seen(plain(source))), archive as unknown as Writable);
  pumped.catch(() => {});
  for await (const entry of archive)
    await unpacker.add(stripped(entryOf(entry.header, path), strip), entry as AsyncIterable<Uint8Array>);
  await pumped;
  if (!end.isThere) throw bad(path, "the archive ends before its end mark");
}

const LATEST_S = 2 ** 33;

/** Whatever the types say: an unknown kind is null, and a date may be none. */
function entryOf(header: Header, path: string): UnpackEntry {
  const pax = (header.pax ?? {}) as Readonly<Record<string, string>>;
  const entry = {
    name: header.name,
    type: header.type ?? "thing of an unknown kind",
    mode: header.mode & 0o1777,
    modifiedS: Math.min(Math.max(0, header.mtime.getTime() / 1000 || 0), LATEST_S),
    target: header.linkname ?? "",
  };
  const isSparse = Object.keys(pax).some((key) => key.startsWith("GNU.sparse."));
  if (!isSparse) return entry;
  if (pax["GNU.sparse.major"] !== "1" || pax["GNU.sparse.name"] === undefined)
    throw bad(path, `${header.name} is sparse in an old format: pack it with --sparse-version=1.0`);
  return { ...entry, name: pax["GNU.sparse.name"], realSize: Number(pax["GNU.sparse.realsize"]) };
}

function stripped(entry: UnpackEntry, strip: boolean): UnpackEntry {
  if (!strip) return entry;
  const without = (name: string): string => name.replace(/^(\.\/)*[^/]+\/*/, "");
  const target = entry.type === "link" ? without(entry.target) : entry.target;
  return { ...entry, name: without(entry.name), target };
}

async function* plain(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  const chunks = fromSource(source);
  let head: Uint8Array = new Uint8Array();
  while (head.length < 2) {
    const next = await chunks.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const all = async function* (): AsyncGenerator<Uint8Array, void, void> {
    if (head.length > 0) yield head;
    yield* chunks;
  };
  if (head[0] !== 0x1f || head[1] !== 0x8b) {
    yield* all();
    return;
  }
  const gunzip = createGunzip();
  pipeline(Readable.from(all()), gunzip).catch(() => {});
  yield* gunzip;
}

/** An archive ends with zeros. One that was cut between two entries does not. */
class EndMark {
  #zeros = 0;

  get isThere(): boolean {
    return this.#zeros >= BLOCK;
  }

  async *seen(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of chunks) {
      let trailing = 0;
      while (trailing < chunk.length && trailing < BLOCK && chunk[chunk.length - 1 - trailing] === 0)
        trailing++;
      this.#zeros = trailing === chunk.length ? this.#zeros + trailing : trailing;
      yield chunk;
    }
  }
}

function withCount(error: unknown, path: string, { entries }: Unpacker): unknown {
  const place = `${entries} ${entries === 1 ? "entry is" : "entries are"} in place`;
  if (error instanceof SourceFailed) return bad(path, `${error.message}; ${place}`);
  // tar-stream and zlib say in plain errors what is wrong with the bytes.
  const code = errnoOf(error);
  if (error instanceof Error && (code.startsWith("Z_") || (code === "" && error.constructor === Error)))
    return bad(path, `${error.message}; ${place}`);
  const known = fileError(error, path);
  return new Refusal(known.type, path, `${known.message ?? known.type}; ${place}`);
}
