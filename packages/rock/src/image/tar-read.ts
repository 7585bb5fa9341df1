import { AleError } from "@ale/core";

/**
 * Reads tar streams of strangers: ustar, GNU and POSIX extended headers, byte by byte, with a bound on everything that has to be held in
 * memory. Names are given as they are written; what they may do is for the reader of the entries to decide.
 */

export type TarType =
  | "file"
  | "link"
  | "symlink"
  | "character-device"
  | "block-device"
  | "directory"
  | "fifo"
  | "other";

export interface TarEntry {
  readonly path: string;
  readonly type: TarType;
  /** 12 permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Seconds since 1970, perhaps with a fraction. */
  readonly mtime: number;
  readonly linkname: string;
  readonly attributes: ReadonlyMap<string, Buffer>;
  /** Has to be read, or left, before the next entry is asked for. */
  body(): AsyncGenerator<Buffer>;
}

const BLOCK = 512;
/** Of an extended header: long names and attributes take a few kilobytes. */
const LONGEST_EXTENSION = 1 << 20;
const LARGEST_ID = 2 ** 32 - 2;
const XATTR = "SCHILY.xattr.";

const TYPES: Readonly<Record<string, TarType>> = {
  "\0": "file",
  "0": "file",
  "1": "link",
  "2": "symlink",
  "3": "character-device",
  "4": "block-device",
  "5": "directory",
  "6": "fifo",
  "7": "file",
};

export function tarInvalid(why: string): AleError {
  return new AleError("tar-invalid", `the archive is damaged or no tar: ${why}`, {
    next: "make or fetch the archive again",
  });
}

/** Throws an AleError `tar-invalid`. */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const bytes = new ByteReader(source);
  try {
    let global = new Map<string, Buffer>();
    let extended = new Map<string, Buffer>();
    for (;;) {
      const block = await bytes.upTo(BLOCK);
      if (block.length === 0) return;
      if (block.length < BLOCK) throw tarInvalid("it ends in the middle of a header");
      if (block.every((byte) => byte === 0)) {
        // What follows the end marker still belongs to whoever checks the stream's digest.
        await bytes.drain();
        return;
      }
      const header = decodeHeader(block);
      if ("xgLK".includes(header.flag)) {
        if (header.size > LONGEST_EXTENSION) throw tarInvalid("an extended header is larger than 1 MiB");
        const body = await bytes.exactly(header.size);
        await bytes.skip(paddingOf(header.size));
        if (header.flag === "x") extended = new Map([...extended, ...decodeRecords(body)]);
        else if (header.flag === "g") global = new Map([...global, ...decodeRecords(body)]);
        else extended.set(header.flag === "L" ? "path" : "linkpath", untilNul(body));
        continue;
      }
      const fields = new Map([...global, ...extended]);
      extended = new Map();
      if (header.flag === "S" || [...fields.keys()].some((key) => key.startsWith("GNU.sparse.")))
        throw tarInvalid("GNU sparse files are not supported");
      const entry = { ...merge(header, fields), body: () => bytes.part(left) };
      const left = { bytes: entry.size };
      yield entry;
      await bytes.skip(left.bytes + paddingOf(entry.size));
    }
  } finally {
    await bytes.close();
  }
}

const paddingOf = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

interface Header extends Omit<TarEntry, "type" | "attributes" | "body"> {
  readonly flag: string;
}

function decodeHeader(block: Buffer): Header {
  let sum = 0;
  for (let at = 0; at < BLOCK; at++) sum += at >= 148 && at < 156 ? 0x20 : block[at]!;
  if (number(block, 148, 8) !== sum) throw tarInvalid("a header's checksum is wrong");
  const name = text(block, 0, 100);
  const isPosix = block.toString("latin1", 257, 263) === "ustar\0";
  const prefix = isPosix ? text(block, 345, 155) : "";
  return {
    path: prefix === "" ? name : `${prefix}/${name}`,
    mode: number(block, 100, 8) & 0o7777,
    uid: number(block, 108, 8),
    gid: number(block, 116, 8),
    size: number(block, 124, 12),
    mtime: number(block, 136, 12),
    flag: String.fromCharCode(block[156]!),
    linkname: text(block, 157, 100),
  };
}

function merge(header: Header, fields: ReadonlyMap<string, Buffer>): Omit<TarEntry, "body"> {
  const word = (key: string, other: string): string => fields.get(key)?.toString("utf8") ?? other;
  const count = (key: string, other: number): number => {
    const value = fields.has(key) ? Number(fields.get(key)!.toString("latin1")) : other;
    if (!Number.isFinite(value)) throw tarInvalid(`the field ${key} is no number`);
    return value;
  };
  const path = word("path", header.path);
  const flagged = TYPES[header.flag] ?? "other";
  // Old archives mark a directory by its name alone.
  const type = flagged === "file" && path.endsWith("/") ? "directory" : flagged;
  const size = count("size", header.size);
  if (!Number.isSafeInteger(size) || size < 0) throw tarInvalid(`an entry claims ${size} bytes`);
  const id = (key: string, other: number): number => {
    const value = count(key, other);
    if (!Number.isInteger(value) || value < 0 || value > LARGEST_ID)
      throw tarInvalid(`${value} is no user or group`);
    return value;
  };
  const attributes = new Map(
    [...fields].flatMap(([key, value]) =>
      key.startsWith(XATTR) ? [[key.slice(XATTR.length), value] as const] : [],
    ),
  );
  return {
    path,
    type,
    mode: header.mode,
    uid: id("uid", header.uid),
    gid: id("gid", header.gid),
    // A link's size says how large its target is; no bytes follow.
    size: type === "file" || type === "other" ? size : 0,
    mtime: count("mtime", header.mtime),
    linkname: word("linkpath", header.linkname),
    attributes,
  };
}

/** Octal digits, or GNU's big-endian number where the first bit is set. */
function number(block: Buffer, offset: number, length: number): number {
  if (block[offset]! & 0x80) {
    let value = block[offset]! & 0x7f;
    // A negative one can only be a date before 1970.
    if (block[offset] === 0xff) return 0;
    for (let at = offset + 1; at < offset + length; at++) value = value * 256 + block[at]!;
    if (!Number.isSafeInteger(value)) throw tarInvalid("a number is too large");
    return value;
  }
  const digits = text(block, offset, length).trim();
  if (!/^[0-7]*$/.test(digits)) throw tarInvalid("a number is none");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

const untilNul = (bytes: Buffer): Buffer => {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
};

const text = (block: Buffer, offset: number, length: number): string =>
  untilNul(block.subarray(offset, offset + length)).toString("utf8");

/** Values are bytes: an attribute need not be text. */
function decodeRecords(body: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at);
    const length = space < 0 ? Number.NaN : Number(body.toString("latin1", at, space));
    const end = at + length;
    if (!Number.isInteger(length) || end > body.length || body[end - 1] !== 0x0a || space >= end)
      throw tarInvalid("an extended header is malformed");
    const equals = body.indexOf(0x3d, space);
    if (equals < 0 || equals >= end) throw tarInvalid("an extended header is malformed");
    records.set(body.toString("utf8", space + 1, equals), body.subarray(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** Bytes of a stream in the portions that the format has. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async #more(): Promise<boolean> {
    while (this.#chunk.length === 0 && !this.#ended) {
      const next = await this.#source.next();
      if (next.done) this.#ended = true;
      else this.#chunk = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    return this.#chunk.length > 0;
  }

  #cut(length: number): Buffer {
    const part = this.#chunk.subarray(0, length);
    this.#chunk = this.#chunk.subarray(part.length);
    return part;
  }

  /** Fewer only at the end of the stream. */
  async upTo(length: number): Promise<Buffer> {
    if (this.#chunk.length >= length) return this.#cut(length);
    const parts: Buffer[] = [];
    for (let left = length; left > 0 && (await this.#more()); ) {
      const part = this.#cut(left);
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  async exactly(length: number): Promise<Buffer> {
    const bytes = await this.upTo(length);
    if (bytes.length < length) throw tarInvalid("it ends in the middle of an entry");
    return bytes;
  }

  async *part(left: { bytes: number }): AsyncGenerator<Buffer> {
    while (left.bytes > 0) {
      if (!(await this.#more())) throw tarInvalid("it ends in the middle of an entry");
      const part = this.#cut(left.bytes);
      left.bytes -= part.length;
      yield part;
    }
  }

  async skip(length: number): Promise<void> {
    for (let left = length; left > 0; ) {
      if (!(await this.#more())) throw tarInvalid("it ends in the middle of an entry");
      left -= this.#cut(left).length;
    }
  }

  async drain(): Promise<void> {
    while (await this.#more()) this.#chunk = Buffer.alloc(0);
  }

  async close(): Promise<void> {
    if (!this.#ended) await this.#source.return?.();
  }
}
