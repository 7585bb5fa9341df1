import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { encodeMap, type Piece, SparseReader, sparseRecords } from "../files/sparse.ts";
import { END_OF_ARCHIVE, padding, type TarEntry, tarHeader } from "../files/tar-header.ts";
import { encodeFrame } from "../inside/control.ts";
import { chunk, END, FileFault, type Frame } from "./file-agent.ts";

/** Archives on their way into and out of a sandbox. */

export interface Uploaded {
  entries: number;
  bytes: number;
}

/** A tar stream, plain or gzip, as files.pl takes it. Throws a FileFault `bad-archive`. `count` is kept up to date. */
export async function* uploadInput(
  directory: string,
  tar: AsyncIterable<Uint8Array>,
  count: Uploaded,
): AsyncGenerator<Uint8Array> {
  const bad = (why: string): FileFault =>
    new FileFault({ type: "bad-archive", path: directory, message: why });
  const entries = extract();
  const source = Readable.from(whole(unzipped(tar)));
  source.once("error", (error) => entries.destroy(error));
  source.pipe(entries);
  try {
    for await (const entry of entries) {
      const content = entry as AsyncIterable<Buffer>;
      const { name, type, linkname, realSize, ...header } = headerOf(entry.header, bad);
      const place = relative(name);
      if (place === undefined) throw bad(`${JSON.stringify(name)} climbs out of the directory`);
      const kind = KINDS[type];
      if (kind === undefined) throw bad(`${JSON.stringify(name)} is a ${type}`);
      const target = kind === "link" ? relative(linkname) : linkname;
      if (target === undefined) throw bad(`${JSON.stringify(name)} links to what is outside`);
      count.entries++;
      if (place !== "") {
        const mode = header.mode ?? (kind === "directory" ? 0o755 : 0o644);
        yield encodeFrame([kind, place, mode & 0o777, header.modifiedS, target, realSize ?? ""]);
      }
      if (place !== "" && kind === "file") {
        for await (const piece of realSize === undefined ? content : unsparse(content, realSize)) {
          count.bytes += piece.length;
          yield* chunk(piece);
        }
        yield END;
      } else entry.resume();
    }
    yield END;
  } catch (error) {
    if (error instanceof FileFault) throw error;
    throw bad(error instanceof Error ? error.message : String(error));
  } finally {
    source.destroy();
    entries.destroy();
  }
}

interface Headed {
  readonly name: string;
  readonly type: string;
  readonly linkname: string;
  readonly mode: number | undefined;
  readonly modifiedS: number;
  /** Of a file with holes. */
  readonly realSize?: number;
}

const LATEST_S = 2 ** 33;

/** Whatever the types say: an unknown kind is null, and a date may be none. */
function headerOf(header: Header, bad: (why: string) => FileFault): Headed {
  const pax = (header.pax ?? {}) as Readonly<Record<string, string>>;
  const entry = {
    name: header.name,
    type: header.type ?? "thing of an unknown kind",
    linkname: header.linkname ?? "",
    mode: header.mode,
    modifiedS: Math.floor(Math.min(Math.max(0, (header.mtime?.getTime() ?? 0) / 1000 || 0), LATEST_S)),
  };
  if (!Object.keys(pax).some((key) => key.startsWith("GNU.sparse."))) return entry;
  if (pax["GNU.sparse.major"] !== "1" || pax["GNU.sparse.name"] === undefined)
    throw bad(`${header.name} is sparse in an old format: pack it with --sparse-version=1.0`);
  return { ...entry, name: pax["GNU.sparse.name"], realSize: Number(pax["GNU.sparse.realsize"]) };
}

/** Every piece behind its offset. */
async function* unsparse(content: AsyncIterable<Buffer>, realSize: number): AsyncGenerator<Uint8Array> {
  const sparse = new SparseReader(realSize);
  for await (const bytes of content)
    for (const piece of sparse.push(bytes)) {
      const offset = Buffer.alloc(8);
      offset.writeBigUInt64BE(BigInt(piece.at));
      yield Buffer.concat([offset, piece.bytes]);
    }
  sparse.finish();
}

const KINDS: Readonly<Record<string, "file" | "directory" | "symlink" | "link">> = {
  file: "file",
  "contiguous-file": "file",
  directory: "directory",
  symlink: "symlink",
  link: "link",
};

/** Undefined where it climbs. */
function relative(name: string): string | undefined {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  return parts.includes("..") || name.startsWith("/") || name.includes("\0") ? undefined : parts.join("/");
}

async function* unzipped(tar: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const source = tar[Symbol.asyncIterator]();
  const first = await source.next();
  if (first.done) return;
  const all = (async function* () {
    yield first.value;
    yield* { [Symbol.asyncIterator]: () => source };
  })();
  const isGzip = first.value[0] === 0x1f && first.value[1] === 0x8b;
  yield* isGzip ? gunzipped(all) : all;
}

async function* gunzipped(bytes: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const gunzip = createGunzip();
  const source = Readable.from(bytes);
  source.once("error", (error) => gunzip.destroy(error));
  yield* source.pipe(gunzip) as AsyncIterable<Uint8Array>;
}

/** Throws where the two empty blocks at an archive's end are missing: it broke off. */
async function* whole(bytes: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let tail = Buffer.alloc(0);
  for await (const chunk of bytes) {
    tail = Buffer.concat([tail, chunk]).subarray(-1024);
    yield chunk;
  }
  if (tail.length < 1024 || tail.some((byte) => byte !== 0)) throw new Error("it ends in the middle");
}

/** The frames of a download as a tar archive. */
export async function* downloadTar(frames: AsyncIterable<Frame>): AsyncGenerator<Uint8Array> {
  let open = 0;
  for await (const [type, ...fields] of frames) {
    if (type === "data" && fields[0] !== undefined) yield fields[0];
    if (type !== "entry") continue;
    const { head, stored } = entryBlocks(fields);
    yield Buffer.concat([padding(open), head]);
    open = stored;
  }
  yield Buffer.concat([padding(open), END_OF_ARCHIVE]);
}

/** What comes before an entry's data, and how long its whole content is in the archive. */
function entryBlocks(fields: readonly Buffer[]): { readonly head: Uint8Array; readonly stored: number } {
  const [name = "", kind, size, mode, uid, gid, modifiedMs, target = ""] = fields.map((field) =>
    field.toString("latin1"),
  );
  const numbers = fields.slice(8).map(Number);
  const type = kind === "directory" || kind === "symlink" ? kind : "file";
  const entry: TarEntry = {
    name: type === "directory" ? `${name}/` : name,
    type,
    size: type === "file" ? Number(size) : 0,
    mode: Number(mode),
    uid: Number(uid),
    gid: Number(gid),
    modifiedS: Math.floor(Number(modifiedMs) / 1000),
    ...(type === "symlink" ? { target } : {}),
  };
  if (numbers.length === 0) return { head: tarHeader(entry), stored: entry.size };
  const pieces: Piece[] = [];
  for (let at = 0; at < numbers.length; at += 2)
    pieces.push({ offset: numbers[at] ?? 0, length: numbers[at + 1] ?? 0 });
  const map = encodeMap(pieces);
  const stored = map.length + pieces.reduce((total, piece) => total + piece.length, 0);
  const pax = sparseRecords(name, entry.size);
  const header = tarHeader({ ...entry, name: `GNUSparseFile.0/${name}`.slice(0, 100), size: stored, pax });
  return { head: Buffer.concat([header, map]), stored };
}
