import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { extract, type Header, pack } from "tar-stream";
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
      const { name, type, mode, mtime, linkname } = entry.header;
      const place = relative(name);
      if (place === undefined) throw bad(`${JSON.stringify(name)} climbs out of the directory`);
      const kind = KINDS[type ?? "file"];
      if (kind === undefined) throw bad(`${JSON.stringify(name)} is a ${type}`);
      const target = kind === "link" ? relative(linkname ?? "") : (linkname ?? "");
      if (target === undefined) throw bad(`${JSON.stringify(name)} links to what is outside`);
      count.entries++;
      if (place === "") {
        entry.resume();
        continue;
      }
      const changed = Math.floor((mtime?.getTime() ?? Date.now()) / 1000);
      yield encodeFrame([
        kind,
        place,
        (mode ?? (kind === "directory" ? 0o755 : 0o644)) & 0o777,
        changed,
        target,
      ]);
      if (kind !== "file") {
        entry.resume();
        continue;
      }
      for await (const bytes of entry as AsyncIterable<Buffer>) {
        count.bytes += bytes.length;
        yield* chunk(bytes);
      }
      yield END;
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

/** The frames of a download as a tar stream. `first` has been read already. */
export function downloadTar(first: Frame, rest: AsyncGenerator<Frame, unknown>): AsyncIterable<Uint8Array> {
  const archive = pack();
  void write(archive, first, rest);
  return archive as AsyncIterable<Uint8Array>;
}

async function write(
  archive: ReturnType<typeof pack>,
  first: Frame,
  rest: AsyncGenerator<Frame, unknown>,
): Promise<void> {
  archive.once("close", () => void rest.return(undefined));
  let entry: ReturnType<typeof archive.entry> | undefined;
  try {
    for (let frame: Frame | undefined = first; frame !== undefined; ) {
      const [type, ...fields] = frame;
      if (type === "entry") {
        (entry as NodeJS.WritableStream | undefined)?.end();
        entry = archive.entry(headerOf(fields));
      } else if (type === "data" && fields[0] !== undefined && entry?.write(fields[0]) === false)
        await new Promise<void>((resolve) => {
          entry?.once("drain", resolve);
          archive.once("close", resolve);
        });
      if (archive.destroyed) return;
      const next: IteratorResult<Frame, unknown> = await rest.next();
      frame = next.done ? undefined : next.value;
    }
    (entry as NodeJS.WritableStream | undefined)?.end();
    archive.finalize();
  } catch (error) {
    archive.destroy(error as Error);
  }
}

function headerOf(fields: readonly Buffer[]): Partial<Header> & Pick<Header, "name"> {
  const [name = "", type, size, mode, uid, gid, modifiedMs, target] = fields.map(String);
  const kind = type === "directory" || type === "symlink" ? type : "file";
  return {
    name: kind === "directory" ? `${name}/` : name,
    type: kind,
    size: kind === "file" ? Number(size) : 0,
    mode: Number(mode),
    uid: Number(uid),
    gid: Number(gid),
    mtime: new Date(Number(modifiedMs)),
    ...(kind === "symlink" ? { linkname: target ?? "" } : {}),
  };
}
