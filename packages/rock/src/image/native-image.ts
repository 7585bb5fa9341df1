import koffi from "koffi";
import { SystemCallError } from "../host/native.ts";

/** The system calls that layers need and Node lacks: extended attributes of the entry itself, special files, whole-file locks. */

interface LibC {
  mknod(path: string, mode: number, device: number): number;
  lsetxattr(path: string, name: string, value: Uint8Array, size: number, flags: number): number;
  lgetxattr(path: string, name: string, value: Uint8Array | null, size: number): number;
  llistxattr(path: string, names: Uint8Array | null, size: number): number;
  flock(fd: number, operation: number): number;
}

let loaded: LibC | undefined;

/** Loaded on first use, so that importing the package on another system does no harm. */
function libc(): LibC {
  if (loaded === undefined) {
    const library = koffi.load("libc.so.6");
    loaded = {
      mknod: library.func("int mknod(const char *path, uint32_t mode, uint64_t dev)"),
      lsetxattr: library.func(
        "int lsetxattr(const char *path, const char *name, const uint8_t *value, size_t size, int flags)",
      ),
      lgetxattr: library.func(
        "long lgetxattr(const char *path, const char *name, _Out_ uint8_t *value, size_t size)",
      ),
      llistxattr: library.func("long llistxattr(const char *path, _Out_ uint8_t *list, size_t size)"),
      flock: library.func("int flock(int fd, int operation)"),
    };
  }
  return loaded;
}

const S_IFCHR = 0o020000;
const S_IFIFO = 0o010000;

/** A character device 0/0: how overlayfs writes down that a lower entry is gone. Throws a SystemCallError. */
export function makeWhiteout(path: string): void {
  if (libc().mknod(path, S_IFCHR, 0) !== 0) throw new SystemCallError(`mknod ${path}`, koffi.errno());
}

/** Throws a SystemCallError. */
export function makeFifo(path: string, mode: number): void {
  if (libc().mknod(path, S_IFIFO | mode, 0) !== 0) throw new SystemCallError(`mkfifo ${path}`, koffi.errno());
}

/** Of the entry itself, never of what it points to. Throws a SystemCallError, e.g. ENOTSUP. */
export function setAttribute(path: string, name: string, value: Uint8Array): void {
  if (libc().lsetxattr(path, name, value, value.length, 0) !== 0)
    throw new SystemCallError(`lsetxattr ${name} of ${path}`, koffi.errno());
}

const LONGEST_ATTRIBUTE = 65_536;

/** Undefined where the entry has none of that name. */
export function getAttribute(path: string, name: string): Buffer | undefined {
  const value = Buffer.alloc(1024);
  let length = Number(libc().lgetxattr(path, name, value, value.length));
  if (length >= 0) return value.subarray(0, length);
  if (koffi.errno() !== koffi.os.errno.ERANGE) return undefined;
  const longer = Buffer.alloc(LONGEST_ATTRIBUTE);
  length = Number(libc().lgetxattr(path, name, longer, longer.length));
  return length >= 0 ? longer.subarray(0, length) : undefined;
}

/** Names of the extended attributes; none where the file system has no such thing. */
export function attributeNames(path: string): string[] {
  const list = Buffer.alloc(4096);
  let length = Number(libc().llistxattr(path, list, list.length));
  if (length === 0) return [];
  if (length > 0) return split(list.subarray(0, length));
  if (koffi.errno() !== koffi.os.errno.ERANGE) return [];
  const longer = Buffer.alloc(LONGEST_ATTRIBUTE);
  length = Number(libc().llistxattr(path, longer, longer.length));
  return length > 0 ? split(longer.subarray(0, length)) : [];
}

const split = (list: Buffer): string[] =>
  list
    .toString("utf8")
    .split("\0")
    .filter((name) => name !== "");

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** Takes the lock of an open file, which the kernel gives back when the file is closed. False where another one has it. */
export function tryLock(fd: number, kind: "shared" | "alone"): boolean {
  if (libc().flock(fd, (kind === "shared" ? LOCK_SH : LOCK_EX) | LOCK_NB) === 0) return true;
  const errno = koffi.errno();
  if (errno === koffi.os.errno.EWOULDBLOCK || errno === koffi.os.errno.EINTR) return false;
  throw new SystemCallError("flock", errno);
}
