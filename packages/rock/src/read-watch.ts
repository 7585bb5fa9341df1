import { closeSync, readSync } from "node:fs";
import { IN_ACCESS, IN_CLOSE_NOWRITE, inotifyOpen, inotifyWatch } from "./native.ts";

/**
 * Notices that a planted file was opened for reading, also where the reader covers its tracks (the owner of a file can read it
 * without moving its access time, or set that back). Watches follow the file, not its name. One queue serves a driver; where the user
 * has no watches left, or the queue overflows, the access time alone tells.
 */
export class ReadWatch {
  #fd: number | undefined;
  #watched = new Map<number, { readonly sandbox: string; readonly path: string }>();
  #read = new Map<string, Set<string>>();
  #buffer = Buffer.alloc(64 * 1024);

  constructor() {
    this.#fd = inotifyOpen();
  }

  /** `fd`: the planted file, open. */
  add(sandbox: string, path: string, fd: number): void {
    if (this.#fd === undefined) return;
    const watch = inotifyWatch(this.#fd, `/proc/self/fd/${fd}`, IN_ACCESS | IN_CLOSE_NOWRITE);
    if (watch !== undefined) this.#watched.set(watch, { sandbox, path });
  }

  wasRead(sandbox: string, path: string): boolean {
    this.#drain(true);
    return this.#read.get(sandbox)?.has(path) ?? false;
  }

  /** What `work` itself reads does not count. */
  unseen<T>(work: () => T): T {
    this.#drain(true);
    try {
      return work();
    } finally {
      this.#drain(false);
    }
  }

  /** Takes what has happened so far out of the kernel's queue, which is not endless. */
  collect(): void {
    this.#drain(true);
  }

  forget(sandbox: string): void {
    this.#read.delete(sandbox);
    for (const [watch, entry] of this.#watched) if (entry.sandbox === sandbox) this.#watched.delete(watch);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #drain(count: boolean): void {
    for (;;) {
      const length = this.#readEvents();
      if (length === 0) return;
      // struct inotify_event: int wd; uint32_t mask, cookie, len; then len bytes of name.
      for (let at = 0; at + 16 <= length; at += 16 + this.#buffer.readUInt32LE(at + 12)) {
        const entry = this.#watched.get(this.#buffer.readInt32LE(at));
        const read = (this.#buffer.readUInt32LE(at + 4) & (IN_ACCESS | IN_CLOSE_NOWRITE)) !== 0;
        if (entry !== undefined && read && count) this.#note(entry.sandbox, entry.path);
      }
    }
  }

  #readEvents(): number {
    if (this.#fd === undefined) return 0;
    try {
      return readSync(this.#fd, this.#buffer);
    } catch {
      // EAGAIN: nothing has happened.
      return 0;
    }
  }

  #note(sandbox: string, path: string): void {
    const paths = this.#read.get(sandbox) ?? new Set();
    this.#read.set(sandbox, paths.add(path));
  }
}
