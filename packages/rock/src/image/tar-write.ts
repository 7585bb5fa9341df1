/** Tar headers as POSIX.1-2001 has them, the same bytes for the same entry, so that a layer packed twice has one digest. */

export interface TarHeader {
  /** Relative, with `/` between names and none at either end. */
  readonly path: string;
  readonly type: "file" | "directory" | "symlink" | "link" | "fifo";
  /** Permission bits, 12 of them. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a file's bytes; 0 for everything else. */
  readonly size: number;
  /** Whole seconds since 1970. */
  readonly mtime: number;
  readonly linkname?: string;
  readonly attributes?: ReadonlyMap<string, Uint8Array>;
}

const TYPE_FLAGS = { file: "0", link: "1", symlink: "2", directory: "5", fifo: "6" } as const;
const BLOCK = 512;
/** The largest number that 11 octal digits hold, and the largest id that 7 do. */
const LARGEST_SIZE = 0o77777777777;
const LARGEST_ID = 0o7777777;

export const END_OF_TAR = Buffer.alloc(2 * BLOCK);

/** Zeros that follow `size` bytes of a body. */
export const padding = (size: number): Buffer => Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);

/** One header block, behind those of an extended header where the entry does not fit into one. */
export function encodeHeader(header: TarHeader): Buffer {
  const path = header.type === "directory" ? `${header.path}/` : header.path;
  const linkname = header.linkname ?? "";
  const records: Buffer[] = [];
  const extend = (key: string, value: string | Uint8Array): void => void records.push(record(key, value));
  if (Buffer.byteLength(path) > 100 || !isAscii(path)) extend("path", path);
  if (Buffer.byteLength(linkname) > 100 || !isAscii(linkname)) extend("linkpath", linkname);
  if (header.size > LARGEST_SIZE) extend("size", String(header.size));
  if (header.mtime < 0 || header.mtime > LARGEST_SIZE) extend("mtime", String(header.mtime));
  if (header.uid > LARGEST_ID) extend("uid", String(header.uid));
  if (header.gid > LARGEST_ID) extend("gid", String(header.gid));
  for (const [name, value] of [...(header.attributes ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)))
    extend(`SCHILY.xattr.${name}`, value);
  const own = block({ ...header, path, linkname }, TYPE_FLAGS[header.type]);
  if (records.length === 0) return own;
  const body = Buffer.concat(records);
  const extended = { path: "pax", linkname: "", mode: 0o644, uid: 0, gid: 0, size: body.length, mtime: 0 };
  return Buffer.concat([block(extended, "x"), body, padding(body.length), own]);
}

type Fields = Pick<TarHeader, "path" | "mode" | "uid" | "gid" | "size" | "mtime"> & {
  readonly linkname: string;
};

function block(fields: Fields, flag: string): Buffer {
  const buffer = Buffer.alloc(BLOCK);
  const octal = (value: number, offset: number, length: number): void => {
    const largest = 8 ** (length - 1) - 1;
    const shown = value < 0 || value > largest ? 0 : value;
    buffer.write(`${shown.toString(8).padStart(length - 1, "0")}\0`, offset, "latin1");
  };
  Buffer.from(fields.path).copy(buffer, 0, 0, 100);
  octal(fields.mode & 0o7777, 100, 8);
  octal(fields.uid, 108, 8);
  octal(fields.gid, 116, 8);
  octal(fields.size, 124, 12);
  octal(fields.mtime, 136, 12);
  buffer.fill(" ", 148, 156);
  buffer.write(flag, 156, "latin1");
  Buffer.from(fields.linkname).copy(buffer, 157, 0, 100);
  buffer.write("ustar\x0000", 257, "latin1");
  let sum = 0;
  for (const byte of buffer) sum += byte;
  buffer.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return buffer;
}

/** "LENGTH KEY=VALUE\n", where the length counts its own digits. */
function record(key: string, value: string | Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as Uint8Array), Buffer.from("\n")]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

const isAscii = (text: string): boolean => Buffer.byteLength(text) === text.length;
