import { closeSync, openSync, readSync } from "node:fs";

/** The loader that an ELF program asks for. */

const PT_INTERP = 3;
const MAX_HEADERS = 64;

/** Undefined for a static program and for what is no ELF program of this machine's word size and byte order (64 bits, little endian). */
export function interpreterOf(path: string): string | undefined {
  const fd = openSync(path, "r");
  try {
    const header = readAt(fd, 0, 64);
    if (
      header.length < 64 ||
      header.toString("latin1", 0, 4) !== "\x7fELF" ||
      header[4] !== 2 ||
      header[5] !== 1
    )
      return undefined;
    const offset = Number(header.readBigUInt64LE(32));
    const size = header.readUInt16LE(54);
    const count = Math.min(header.readUInt16LE(56), MAX_HEADERS);
    const table = readAt(fd, offset, size * count);
    for (let at = 0; at + 56 <= table.length; at += size) {
      if (table.readUInt32LE(at) !== PT_INTERP) continue;
      const name = readAt(fd, Number(table.readBigUInt64LE(at + 8)), Number(table.readBigUInt64LE(at + 32)));
      return name.toString("utf8").replace(/\0.*$/s, "");
    }
    return undefined;
  } finally {
    closeSync(fd);
  }
}

function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(Math.min(length, 65_536));
  return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, position));
}
