import { closeSync, readSync } from "node:fs";
import { IN_ACCESS, IN_CLOSE_NOWRITE, IN_Q_OVERFLOW, inotifyOpen, inotifyWatch } from "../host/native.ts";

/**
 * Notices that a planted file was opened for reading, also where the reader covers its tracks (the owner of a file can read it
 * without moving its access time, or set that back). Watches follow the file, not its name. One queue serves a driver; where the user
 * has no watches left, or the queue overflows, the access time alone tells.
 */
export class ReadWatch {
  #fd: number | undefined;
  #watched = new Map<number, { readonly sandbox: string; readonly path: string }>();
  /** Sandbox, then path, then whether it was read. */
  #read = new Map<string, Map<string, boolean>>();
  #buffer = Buffer.alloc(64 * 1024);

  constructor() {
    this.#fd = inotifyOpen();
  }

  /** `fd`: the planted file, open. `read`: whether that had happened before. */
  add(sandbox: string, path: string, fd: number, read = false): void {
    if (this.#fd === undefined) return;
    const watch = inotifyWatch(this.#fd, `/proc/self/fd/${fd}`, IN_ACCESS | IN_CLOSE_NOWRITE);
    if (watch === undefined) return;
    this.#watched.set(watch, { sandbox, path });
    this.#note(sandbox, path, read);
  }

  /** Undefined where there is no watch, or where events were lost: then only the access time can tell. */
  wasRead(sandbox: string, path: string): boolean | undefined {
    this.#drain(true);
    return this.#read.get(sandbox)?.get(path);
  }

  /** Those of a sandbox that were read. */
  readPaths(sandbox: string): string[] {
    this.#drain(true);
    return [...(this.#read.get(sandbox) ?? [])].flatMap(([path, read]) => (read ? [path] : []));
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
        const mask = this.#buffer.readUInt32LE(at + 4);
        const read = (mask & (IN_ACCESS | IN_CLOSE_NOWRITE)) !== 0;
        if (entry !== undefined && read && count) this.#note(entry.sandbox, entry.path, true);
        if ((mask & IN_Q_OVERFLOW) !== 0) this.#doubt();
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

  #note(sandbox: string, path: string, read: boolean): void {
    const paths = this.#read.get(sandbox) ?? new Map<string, boolean>();
    this.#read.set(sandbox, paths.set(path, read));
  }

  /** Events were lost: what is not known to have been read is not known at all. */
  #doubt(): void {
    for (const paths of this.#read.values()) for (const [path, read] of paths) if (!read) paths.delete(path);
  }
}
