import { constants, openSync } from "node:fs";
import koffi from "koffi";
import { SystemCallError } from "../host/native.ts";

/** System calls that work relative to an open directory, which Node does not offer. */

/** Every link is resolved as in a chroot to the directory: absolute ones and `..` stay in it. */
export const RESOLVE_IN_ROOT = 0x10;
/** A path that leaves the directory, by a link or by `..`, is EXDEV. */
export const RESOLVE_BENEATH = 0x08;
/** Any link on the way, or at the end, is ELOOP. */
export const RESOLVE_NO_SYMLINKS = 0x04;
/** Links of /proc, which jump anywhere, are ELOOP. */
export const RESOLVE_NO_MAGICLINKS = 0x02;

/** A handle to something, which can neither be read nor written. Costs no copy-up and wakes no FIFO. */
export const O_PATH = 0o10000000;
/** Reading leaves no trace in the file's access time. */
export const O_NOATIME = 0o1000000;
const O_CLOEXEC = 0o2000000;

/** The same number on every machine. */
const SYS_OPENAT2 = 437;
const SYS_RENAMEAT2: Readonly<Record<string, number>> = { x64: 316, arm64: 276 };
const RENAME_NOREPLACE = 1;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** The kernel gives up with EAGAIN where somebody renames things at the same moment. */
const ATTEMPTS = 64;

interface Calls {
  openat2(number: number, directory: number, path: Buffer, how: Buffer, size: number): number;
  renameat2(
    number: number,
    from: number,
    fromName: string,
    to: number,
    toName: string,
    flags: number,
  ): number;
  lseek(fd: number, offset: number, whence: number): number;
}

let loaded: Calls | undefined;

function calls(): Calls {
  if (loaded === undefined) {
    const library = koffi.load("libc.so.6");
    loaded = {
      openat2: library.func("syscall", "long", ["long", "int", "void *", "void *", "size_t"]),
      renameat2: library.func("syscall", "long", ["long", "int", "str", "int", "str", "uint"]),
      lseek: library.func("lseek64", "int64_t", ["int", "int64_t", "int"]),
    };
  }
  return loaded;
}

export interface OpenHow {
  readonly flags: number;
  /** Permission bits of a file that is created. */
  readonly mode?: number;
  readonly resolve: number;
}

/** A descriptor that is closed on exec. `path` has no NUL. Throws a SystemCallError. */
export function openat2(directory: number, path: string | Buffer, how: OpenHow): number {
  const name = Buffer.concat([typeof path === "string" ? Buffer.from(path, "utf8") : path, Buffer.alloc(1)]);
  // struct open_how: flags, mode, resolve.
  const bytes = Buffer.alloc(24);
  bytes.writeBigUInt64LE(BigInt(how.flags | O_CLOEXEC), 0);
  bytes.writeBigUInt64LE(BigInt(how.mode ?? 0), 8);
  bytes.writeBigUInt64LE(BigInt(how.resolve | RESOLVE_NO_MAGICLINKS), 16);
  for (let attempt = 0; ; attempt++) {
    const fd = calls().openat2(SYS_OPENAT2, directory, name, bytes, bytes.length);
    if (fd >= 0) return fd;
    const errno = koffi.errno();
    if (errno !== koffi.os.errno.EAGAIN || attempt >= ATTEMPTS)
      throw new SystemCallError(`openat2 ${path}`, errno);
  }
}

export interface Place {
  readonly directory: number;
  readonly name: string;
}

/** Renames, and fails with EEXIST where the new name is taken. Throws a SystemCallError. */
export function renameToNew(from: Place, to: Place): void {
  const number = SYS_RENAMEAT2[process.arch];
  if (number === undefined) throw new SystemCallError("renameat2", koffi.os.errno.ENOSYS ?? 38);
  const { renameat2 } = calls();
  if (renameat2(number, from.directory, from.name, to.directory, to.name, RENAME_NOREPLACE) !== 0)
    throw new SystemCallError(`renameat2 to ${to.name}`, koffi.errno());
}

/** Where the data at or after `offset` begins and ends; undefined where only a hole follows. Throws a SystemCallError. */
export function nextData(fd: number, offset: number): { start: number; end: number } | undefined {
  const start = calls().lseek(fd, offset, SEEK_DATA);
  if (start < 0) {
    const errno = koffi.errno();
    if (errno === koffi.os.errno.ENXIO) return undefined;
    throw new SystemCallError("lseek", errno);
  }
  const end = calls().lseek(fd, start, SEEK_HOLE);
  if (end < 0) throw new SystemCallError("lseek", koffi.errno());
  return { start, end };
}

/** Opens to read without leaving a trace, where that is allowed: to root, and to the file's owner. */
export function openUnnoticed(
  path: string | Buffer,
  flags = constants.O_RDONLY | constants.O_NONBLOCK,
): number {
  try {
    return openSync(path, flags | O_NOATIME);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
    return openSync(path, flags);
  }
}
