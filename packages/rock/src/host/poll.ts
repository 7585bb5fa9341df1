import koffi from "koffi";
import { SystemCallError } from "./native.ts";

/**
 * Waits, with the whole thread, until one of some descriptors can be read, and reads what is there. Not for a thread that has anything else to
 * do.
 */

const POLLIN = 1;
/** struct pollfd: int fd; short events, revents. */
const ENTRY_BYTES = 8;

let library: ((entries: Buffer, count: number, timeoutMs: number) => number) | undefined;

export class Poll {
  readonly #entries: Buffer;
  readonly #count: number;

  constructor(descriptors: readonly number[]) {
    this.#count = descriptors.length;
    this.#entries = Buffer.alloc(this.#count * ENTRY_BYTES);
    descriptors.forEach((fd, n) => {
      this.#entries.writeInt32LE(fd, n * ENTRY_BYTES);
      this.#entries.writeInt16LE(POLLIN, n * ENTRY_BYTES + 4);
    });
    library ??= koffi.load("libc.so.6").func("poll", "int", ["void *", "ulong", "int"]);
  }

  /** Whether there is something. */
  wait(timeoutMs: number): boolean {
    return library!(this.#entries, this.#count, timeoutMs) > 0;
  }
}

let read: ((fd: number, buffer: Buffer, length: number) => number) | undefined;

/** Bytes of a descriptor that does not block; 0 where there is nothing now, of which Node would make an exception. Throws a SystemCallError. */
export function readNow(fd: number, buffer: Buffer): number {
  read ??= koffi.load("libc.so.6").func("read", "long", ["int", "void *", "ulong"]);
  const length = Number(read(fd, buffer, buffer.length));
  if (length >= 0) return length;
  const errno = koffi.errno();
  if (errno === koffi.os.errno.EAGAIN || errno === koffi.os.errno.EINTR) return 0;
  throw new SystemCallError("read", errno);
}
