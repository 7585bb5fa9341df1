import {
  chmodSync,
  closeSync,
  constants,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readlinkSync,
  rmSync,
  type Stats,
  symlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { isRootless } from "../host/rootless.ts";
import { CAPABILITY_ATTRIBUTE, OPAQUE_MARKER, WHITEOUT_PREFIX } from "./layer-pack.ts";
import { makeFifo, makeWhiteout, setAttribute } from "./native-image.ts";
import { readTar, type TarEntry } from "./tar-read.ts";

/**
 * Unpacks a layer of a stranger into a directory in overlayfs form. Nobody else writes to the directory, so a path that was checked stays
 * what it was. Whatever a name or a link says, nothing outside the directory is read, written or linked: links on the way are followed
 * inside it, as a container would. Devices are left out. Of the extended attributes only file capabilities are kept: others are of no
 * use to a sandbox, and some would be orders to overlayfs.
 */

export interface ApplyOptions {
  /** Ids above this process's rights are left out: everything then belongs to the caller. Default: true for root. */
  readonly keepOwners?: boolean;
  /** Unpacked bytes at most. Default: 64 GiB. */
  readonly maxBytes?: number;
  /** Entries at most. Default: 4 million. */
  readonly maxEntries?: number;
  readonly signal?: AbortSignal;
}

export interface ApplyReport {
  entries: number;
  bytes: number;
  /** Devices, sockets, foreign metadata. */
  skipped: number;
}

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
const MOST_LINKS = 40;
const LONGEST_NAME = 255;
const LONGEST_PATH = 4096;
/** What every file system can write down. */
const [EARLIEST, LATEST] = [-(2 ** 31), 2 ** 33];
const DEFAULT_BYTES = 64 * 2 ** 30;
const DEFAULT_ENTRIES = 4_000_000;

export function layerUnsafe(path: string, why: string): AleError {
  return new AleError("layer-unsafe", `the layer's entry ${JSON.stringify(path.slice(0, 200))} ${why}`, {
    next: "do not use this image: a well-made one has no such entry",
  });
}

/** Throws an AleError (`layer-unsafe`, `layer-too-large`, `tar-invalid`); the directory is then half-made and the caller's to remove. */
export async function applyLayer(
  source: AsyncIterable<Uint8Array>,
  directory: string,
  options: ApplyOptions = {},
): Promise<ApplyReport> {
  const layer = new LayerDirectory(directory, options);
  for await (const entry of readTar(source)) {
    options.signal?.throwIfAborted();
    await layer.add(entry);
  }
  layer.finish();
  return layer.report;
}

class LayerDirectory {
  readonly report: ApplyReport = { entries: 0, bytes: 0, skipped: 0 };
  readonly #root: string;
  readonly #keepOwners: boolean;
  readonly #maxBytes: number;
  readonly #maxEntries: number;
  /** Times and rights of directories, set last: filling a directory changes its times and needs its rights. */
  readonly #directories = new Map<string, { readonly mtime: number; readonly mode: number }>();
  #lastParent: { readonly names: string; readonly path: string } | undefined;

  constructor(root: string, options: ApplyOptions) {
    this.#root = root;
    this.#keepOwners = options.keepOwners ?? process.getuid?.() === 0;
    this.#maxBytes = options.maxBytes ?? DEFAULT_BYTES;
    this.#maxEntries = options.maxEntries ?? DEFAULT_ENTRIES;
  }

  async add(entry: TarEntry): Promise<void> {
    if (++this.report.entries > this.#maxEntries)
      throw new AleError("layer-too-large", `the layer has more than ${this.#maxEntries} entries`);
    const names = namesOf(entry.path);
    const name = names.pop();
    if (name === undefined) {
      // The root itself: only its rights and owner can be meant.
      if (entry.type === "directory") this.#dress(this.#root, entry);
      return;
    }
    if (name === OPAQUE_MARKER) return this.#markOpaque(this.#parent(names, entry.path));
    if (name.startsWith(".wh..wh.")) return this.#skip();
    if (name.startsWith(WHITEOUT_PREFIX))
      return this.#whiteOut(this.#parent(names, entry.path), name, entry.path);
    await this.#place(join(this.#parent(names, entry.path), name), entry);
  }

  finish(): void {
    for (const [path, { mtime, mode }] of [...this.#directories].reverse()) {
      lutimesSync(path, mtime, mtime);
      chmodSync(path, mode);
    }
  }

  #skip(): void {
    this.report.skipped++;
  }

  /** The real directory of an entry, made where missing. */
  #parent(names: readonly string[], path: string): string {
    const key = names.join("/");
    if (this.#lastParent?.names === key) return this.#lastParent.path;
    const found = this.#resolve(names, path, true);
    this.#lastParent = { names: key, path: found };
    return found;
  }

  /** Follows links inside the layer, never out of it: `..` at the top stays there, an absolute link begins at the top. */
  #resolve(names: readonly string[], path: string, make: boolean): string {
    const todo = [...names].reverse();
    const at: string[] = [];
    let links = 0;
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (name === "" || name === ".") continue;
      if (name === "..") {
        at.pop();
        continue;
      }
      const here = join(this.#root, ...at, name);
      const stat = statOf(here);
      if (stat?.isSymbolicLink()) {
        if (++links > MOST_LINKS) throw layerUnsafe(path, "runs through a circle of links");
        const target = readlinkSync(here);
        if (target.startsWith("/")) at.length = 0;
        todo.push(...target.split("/").reverse());
        continue;
      }
      if (!stat?.isDirectory()) {
        if (!make) throw layerUnsafe(path, "refers to a directory that the layer does not have");
        const hides = stat?.isCharacterDevice() === true;
        if (stat !== undefined) rmSync(here);
        mkdirSync(here, { mode: 0o755 });
        chmodSync(here, 0o755);
        // It was removed from the layers below and is made anew.
        if (hides) this.#markOpaque(here);
      }
      at.push(name);
    }
    return join(this.#root, ...at);
  }

  async #place(target: string, entry: TarEntry): Promise<void> {
    if (entry.type === "character-device" || entry.type === "block-device" || entry.type === "other")
      return this.#skip();
    const before = statOf(target);
    const merges = entry.type === "directory" && before?.isDirectory() === true;
    if (before !== undefined && !merges) this.#clear(target);
    switch (entry.type) {
      case "directory":
        if (!merges) mkdirSync(target, { mode: 0o700 });
        if (before?.isCharacterDevice()) this.#markOpaque(target);
        break;
      case "file":
        await this.#writeFile(target, entry);
        break;
      case "symlink":
        if (entry.linkname === "" || entry.linkname.includes("\0") || entry.linkname.length > LONGEST_PATH)
          throw layerUnsafe(entry.path, "is a link to nothing");
        symlinkSync(entry.linkname, target);
        break;
      case "fifo":
        makeFifo(target, 0o600);
        break;
      case "link":
        // The owner, rights and times are those of what it links to.
        return this.#link(target, entry);
      default:
        return entry.type satisfies never;
    }
    this.#dress(target, entry);
  }

  /** What a later entry replaces. */
  #clear(target: string): void {
    this.#lastParent = undefined;
    for (const path of this.#directories.keys())
      if (path === target || path.startsWith(`${target}/`)) this.#directories.delete(path);
    rmSync(target, { recursive: true, force: true });
  }

  async #writeFile(target: string, entry: TarEntry): Promise<void> {
    if (this.report.bytes + entry.size > this.#maxBytes)
      throw new AleError("layer-too-large", `the layer unpacks to more than ${this.#maxBytes} bytes`);
    const fd = openSync(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      let at = 0;
      for await (const chunk of entry.body()) {
        // A hole where a whole chunk is empty.
        if (!isBlank(chunk)) writeAll(fd, chunk, at);
        at += chunk.length;
      }
      if (at > 0) ftruncateSync(fd, at);
      this.report.bytes += at;
    } finally {
      closeSync(fd);
    }
  }

  #link(target: string, entry: TarEntry): void {
    const names = namesOf(entry.linkname);
    const name = names.pop();
    if (name === undefined) throw layerUnsafe(entry.path, "is a hard link to nothing");
    const source = join(this.#resolve(names, entry.path, false), name);
    const stat = statOf(source);
    if (stat === undefined || stat.isDirectory() || stat.isCharacterDevice())
      throw layerUnsafe(entry.path, `is a hard link to ${entry.linkname}, which the layer does not have`);
    linkSync(source, target);
  }

  #dress(path: string, entry: TarEntry): void {
    if (this.#keepOwners) this.#own(path, entry);
    // After the owner, which would take set-user-id away.
    if (entry.type === "directory") chmodSync(path, entry.mode | 0o700);
    else if (entry.type !== "symlink") chmodSync(path, entry.mode);
    const capability = entry.type === "file" ? entry.attributes.get(CAPABILITY_ATTRIBUTE) : undefined;
    if (capability !== undefined && this.#keepOwners) {
      try {
        setAttribute(path, CAPABILITY_ATTRIBUTE, capability);
      } catch {
        // A malformed one, or a file system without such attributes: the file works without.
        this.#skip();
      }
    }
    const mtime = Math.max(EARLIEST, Math.min(entry.mtime, LATEST));
    if (entry.type === "directory") this.#directories.set(path, { mtime, mode: entry.mode });
    else lutimesSync(path, mtime, mtime);
  }

  #own(path: string, { uid, gid }: TarEntry): void {
    try {
      lchownSync(path, uid, gid);
    } catch (error) {
      // An ordinary user does not have every number: the entry then is its root's.
      if (!isRootless() || (error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
      this.#skip();
    }
  }

  #whiteOut(parent: string, name: string, path: string): void {
    const hidden = name.slice(WHITEOUT_PREFIX.length);
    if (hidden === "" || hidden === "." || hidden === "..")
      throw layerUnsafe(path, "removes a name that is none");
    const target = join(parent, hidden);
    const stat = statOf(target);
    // It speaks of the layers below; what this layer itself has there stays.
    if (stat === undefined) makeWhiteout(target);
    else if (stat.isDirectory()) this.#markOpaque(target);
  }

  #markOpaque(path: string): void {
    // For an ordinary user overlayfs keeps its notes in attributes that he may write.
    const ordinary = !this.#keepOwners || isRootless();
    setAttribute(path, ordinary ? "user.overlay.opaque" : "trusted.overlay.opaque", Buffer.from("y"));
  }
}

/** Names on the way, without `.` and empty ones. Throws for a path that climbs. */
function namesOf(path: string): string[] {
  if (path.includes("\0") || path.length > LONGEST_PATH) throw layerUnsafe(path, "has an impossible name");
  // An absolute name means the layer's own root, as with every other unpacker.
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..")) throw layerUnsafe(path, "climbs out of the layer");
  if (names.some((name) => Buffer.byteLength(name) > LONGEST_NAME))
    throw layerUnsafe(path, "has an impossible name");
  return names;
}

const statOf = (path: string): Stats | undefined => lstatSync(path, { throwIfNoEntry: false });

const BLANK = Buffer.alloc(1 << 16);
const SMALLEST_HOLE = 4096;

const isBlank = (chunk: Buffer): boolean =>
  chunk.length >= SMALLEST_HOLE &&
  chunk[0] === 0 &&
  chunk.length <= BLANK.length &&
  chunk.equals(BLANK.subarray(0, chunk.length));

function writeAll(fd: number, chunk: Buffer, at: number): void {
  for (let done = 0; done < chunk.length; )
    done += writeSync(fd, chunk, done, chunk.length - done, at + done);
}
