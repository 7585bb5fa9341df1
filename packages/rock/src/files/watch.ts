import { closeSync, constants, type Dirent, fstatSync, readdirSync, readSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { IN_Q_OVERFLOW, inotifyOpen, inotifyUnwatch, inotifyWatch } from "../host/native.ts";
import type { FileChange } from "../port/files.ts";
import { errnoOf } from "./errors.ts";
import type { Access } from "./handle.ts";
import { closing, find, through } from "./located.ts";
import { O_PATH, openat2, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS } from "./openat2.ts";
import { Pacer } from "./pacer.ts";

/**
 * Changes below a path, seen from outside by inotify on the merged root. Directories that appear are watched as well, and what was put
 * into them before is reported. Where the kernel's queue runs over, or more directories appear than are watched, a change of type `lost` says so.
 */

const IN_MODIFY = 0x2;
const IN_ATTRIB = 0x4;
const IN_MOVED_FROM = 0x40;
const IN_MOVED_TO = 0x80;
const IN_CREATE = 0x100;
const IN_DELETE = 0x200;
const IN_DELETE_SELF = 0x400;
const IN_MOVE_SELF = 0x800;
const IN_IGNORED = 0x8000;
const IN_ISDIR = 0x40000000;
const CONTENT =
  IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF;

/** Each costs the kernel about 1 KB. */
const MAX_DIRECTORIES = 8_192;
/** Handed over before more are read. */
const MAX_CHANGES = 4_096;
/** How soon a change is seen. */
const POLL_MS = 20;

export interface WatchOptions {
  readonly recursive: boolean;
  /** Default: 8,192. */
  readonly maxDirectories?: number;
}

/** Ends with the signal, the sandbox, or what is watched. Throws an AleError or a Refusal. */
export async function* changesBelow(
  access: Access,
  path: string,
  options: WatchOptions,
  signal: AbortSignal,
): AsyncGenerator<FileChange, void, void> {
  if (signal.aborted) return;
  using watch = new Watch(access, path, options);
  await watch.begin();
  while (!signal.aborted) {
    for (const change of await watch.take()) {
      if (signal.aborted) return;
      yield change;
    }
    if (watch.ended) return;
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

/** Owns two descriptors. Names are as the kernel has them, one character a byte. */
class Watch implements Disposable {
  readonly #base: number;
  readonly #events: number;
  readonly #path: string;
  readonly #options: WatchOptions;
  readonly #forget: () => void;
  /** Directory below the base, "" for itself, by the number of its watch. */
  readonly #directories = new Map<number, string>();
  readonly #buffer = Buffer.alloc(64 * 1024);
  #changes: FileChange[] = [];
  #ended = false;
  #closed = false;

  constructor(access: Access, path: string, options: WatchOptions) {
    this.#path = path.replace(/\/+$/, "");
    this.#options = options;
    this.#base = find(access.tree, path);
    const events = inotifyOpen();
    if (events === undefined) closeSync(this.#base);
    if (events === undefined) throw cannotWatch("max_user_instances");
    this.#events = events;
    this.#forget = access.tree.onClose(() => this[Symbol.dispose]());
    if (this.#add("", this.#base)) return;
    this[Symbol.dispose]();
    throw cannotWatch("max_user_watches");
  }

  get ended(): boolean {
    return this.#ended || this.#closed;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#forget();
    closeSync(this.#base);
    closeSync(this.#events);
  }

  /** Watches what is there. */
  async begin(): Promise<void> {
    if (this.#options.recursive && fstatSync(this.#base).isDirectory()) await this.#descend("", false);
  }

  /** What has happened since the last time. */
  async take(): Promise<readonly FileChange[]> {
    while (!this.ended) {
      const events = this.#read();
      if (events.length === 0) break;
      for (const event of events) await this.#handle(event);
      if (this.#changes.length > MAX_CHANGES) break;
    }
    // A handle keeps what is watched from being really gone, so that the kernel does not tell.
    if (!this.ended && fstatSync(this.#base).nlink === 0) this.#end();
    const taken = this.#changes;
    this.#changes = [];
    return taken;
  }

  #end(): void {
    if (!this.#ended) this.#note("removed", "");
    this.#ended = true;
  }

  #read(): Event[] {
    let length: number;
    try {
      length = readSync(this.#events, this.#buffer);
    } catch (error) {
      if (errnoOf(error) === "EAGAIN") return [];
      throw error;
    }
    const events: Event[] = [];
    // struct inotify_event: int wd; uint32_t mask, cookie, len; then len bytes of name, filled up with NUL.
    for (let at = 0; at + 16 <= length; ) {
      const end = at + 16 + this.#buffer.readUInt32LE(at + 12);
      const name = this.#buffer.toString("latin1", at + 16, end).replace(/\0+$/, "");
      events.push({ watch: this.#buffer.readInt32LE(at), mask: this.#buffer.readUInt32LE(at + 4), name });
      at = end;
    }
    return events;
  }

  async #handle({ watch, mask, name }: Event): Promise<void> {
    if ((mask & IN_Q_OVERFLOW) !== 0) {
      this.#note("lost", "");
      if (this.#options.recursive) await this.#descend("", false);
      return;
    }
    const directory = this.#directories.get(watch);
    if (directory === undefined) return;
    if ((mask & IN_IGNORED) !== 0) this.#directories.delete(watch);
    if ((mask & (IN_DELETE_SELF | IN_MOVE_SELF)) !== 0 && directory === "") this.#end();
    const path = name === "" ? directory : join(directory, name);
    const isDirectory = (mask & IN_ISDIR) !== 0;
    if ((mask & (IN_CREATE | IN_MOVED_TO)) !== 0) {
      this.#note("created", path);
      if (isDirectory && this.#options.recursive) await this.#descend(path, true);
    } else if ((mask & (IN_DELETE | IN_MOVED_FROM)) !== 0) {
      this.#note("removed", path);
      if (isDirectory) this.#drop(path);
    } else if ((mask & (IN_MODIFY | IN_ATTRIB)) !== 0 && (name !== "" || directory === ""))
      this.#note("changed", path);
  }

  #note(type: FileChange["type"], path: string): void {
    const shown = Buffer.from(path, "latin1").toString("utf8");
    const change = { type, path: `${this.#path}${shown === "" ? "" : `/${shown}`}` || "/" };
    const last = this.#changes.at(-1);
    // A program that writes a file makes thousands of these.
    if (last?.type !== type || last.path !== change.path) this.#changes.push(change);
  }

  /** Watches a directory and all below it; with `report`, what is there was made before anybody watched. */
  async #descend(top: string, report: boolean): Promise<void> {
    const pacer = new Pacer();
    const waiting = [top];
    for (let path = waiting.pop(); path !== undefined && !this.ended; path = waiting.pop()) {
      await pacer.breathe();
      for (const entry of this.ended ? [] : this.#enter(path)) {
        const child = join(path, entry.name);
        if (report) this.#note("created", child);
        if (entry.isDirectory()) waiting.push(child);
      }
    }
  }

  /** Its entries, from after it is watched. None where it is gone, or too much. */
  #enter(path: string): readonly Dirent<string>[] {
    let fd: number;
    try {
      const name = Buffer.from(path === "" ? "." : path, "latin1");
      const flags = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
      fd = openat2(this.#base, name, { flags, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
    } catch {
      return [];
    }
    return closing(fd, () => {
      if (path !== "" && !this.#add(path, fd)) {
        this.#note("lost", path);
        return [];
      }
      return readdirSync(through(fd), { withFileTypes: true, encoding: "latin1" });
    });
  }

  #add(path: string, fd: number): boolean {
    if (this.#directories.size >= (this.#options.maxDirectories ?? MAX_DIRECTORIES)) return false;
    const watch = inotifyWatch(this.#events, through(fd), CONTENT);
    if (watch !== undefined) this.#directories.set(watch, path);
    return watch !== undefined;
  }

  /** It is gone, or goes on elsewhere. */
  #drop(path: string): void {
    for (const [watch, directory] of this.#directories)
      if (directory === path || directory.startsWith(`${path}/`)) {
        this.#directories.delete(watch);
        inotifyUnwatch(this.#events, watch);
      }
  }
}

const join = (directory: string, name: string): string => (directory === "" ? name : `${directory}/${name}`);

interface Event {
  readonly watch: number;
  readonly mask: number;
  readonly name: string;
}

function cannotWatch(setting: string): AleError {
  return new AleError("watch-unavailable", "this host's user has no inotify watches left", {
    next: `raise fs.inotify.${setting} (sysctl), or end other watches`,
  });
}
