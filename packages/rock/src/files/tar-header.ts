/** Headers of tar archives as POSIX.1-2001 (pax) has them. Names are as the kernel has them, one character a byte. */

export interface TarEntry {
  readonly name: string;
  readonly type: "file" | "directory" | "symlink";
  /** Bytes that follow in the archive. */
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modifiedS: number;
  /** Of a link. */
  readonly target?: string;
  /** More records of the extended header. */
  readonly pax?: Readonly<Record<string, string>>;
}

export const BLOCK = 512;
/** Two blocks of zeros. */
export const END_OF_ARCHIVE: Buffer = Buffer.alloc(2 * BLOCK);

const TYPES = { file: "0", directory: "5", symlink: "2", pax: "x" } as const;

/** Zeros that fill the last block. */
export const padding = (size: number): Buffer => Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);

/** All blocks before the content. */
export function tarHeader(entry: TarEntry): Buffer {
  const records = paxRecords(entry);
  const block = headerBlock({ ...entry, flag: TYPES[entry.type] });
  if (records.length === 0) return block;
  const body = Buffer.concat(records);
  const before = headerBlock({
    ...entry,
    name: "PaxHeader",
    target: "",
    size: body.length,
    flag: TYPES.pax,
  });
  return Buffer.concat([before, body, padding(body.length), block]);
}

interface HeaderBlock extends Omit<TarEntry, "type" | "pax"> {
  readonly flag: string;
}

/** What does not fit is cut: then a record of the extended header has it whole. */
function headerBlock(entry: HeaderBlock): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(entry.name.slice(0, 100), 0, "latin1");
  octal(block, entry.mode, 100, 8);
  octal(block, entry.uid, 108, 8);
  octal(block, entry.gid, 116, 8);
  octal(block, entry.size, 124, 12);
  octal(block, entry.modifiedS, 136, 12);
  block.write(entry.flag, 156);
  block.write((entry.target ?? "").slice(0, 100), 157, "latin1");
  block.write("ustar\x0000", 257);
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

const fits = (value: number, length: number): boolean => value >= 0 && value < 8 ** (length - 1);

function octal(block: Buffer, value: number, at: number, length: number): void {
  const digits = fits(value, length) ? Math.floor(value).toString(8) : "0";
  block.write(`${digits.padStart(length - 1, "0")}\0`, at);
}

function paxRecords(entry: TarEntry): Buffer[] {
  const { name, target = "", size, uid, gid, modifiedS, pax = {} } = entry;
  const records: [string, string][] = [];
  if (name.length > 100) records.push(["path", name]);
  if (target.length > 100) records.push(["linkpath", target]);
  if (!fits(size, 12)) records.push(["size", String(size)]);
  if (!fits(uid, 8)) records.push(["uid", String(uid)]);
  if (!fits(gid, 8)) records.push(["gid", String(gid)]);
  if (!fits(modifiedS, 12)) records.push(["mtime", String(modifiedS)]);
  records.push(...Object.entries(pax));
  return records.map(([key, value]) => record(` ${key}=${value}\n`));
}

/** A record begins with its own length. */
function record(text: string): Buffer {
  let length = text.length + 1;
  while (`${length}${text}`.length > length) length++;
  return Buffer.from(`${length}${text}`, "latin1");
}
