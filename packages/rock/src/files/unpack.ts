import { randomBytes } from "node:crypto";
import {
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  linkSync,
  lstatSync,
  openSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  write,
} from "node:fs";
import { promisify } from "node:util";
import { writePiece } from "./content.ts";
import { errnoOf, fileError, Refusal } from "./errors.ts";
import { type Access, Handle } from "./handle.ts";
import { at, closing, type Ids, reach, through } from "./located.ts";
import { O_PATH, openat2, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS } from "./openat2.ts";
import { SparseReader } from "./sparse.ts";

/**
 * Puts the entries of an archive below a directory. Links on the way are followed only as long as they stay below it, and every file appears
 * under its name when it is complete: what breaks off leaves nothing half-written.
 */

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY, O_RDONLY } = constants;
const writeAsync = promisify(write);

export interface UnpackEntry {
  readonly name: string;
  readonly type: string;
  readonly mode: number;
  readonly modifiedS: number;
  readonly target: string;
  /** Of a sparse file. */
  readonly realSize?: number;
}

/** Owns the descriptors of the directory and of the last entry's parent. */
export class Unpacker implements Disposable {
  entries = 0;
  bytes = 0;
  readonly #access: Access;
  readonly #base: number;
  readonly #path: string;
  readonly #ids: Ids;
  #parent: { readonly path: string; readonly fd: number } | undefined;

  constructor(access: Access, base: number, path: string, ids: Ids) {
    this.#access = access;
    this.#base = base;
    this.#path = path;
    this.#ids = ids;
  }

  async add(entry: UnpackEntry, content: AsyncIterable<Uint8Array>): Promise<void> {
    const names = namesIn(entry.name, this.#path);
    const name = names.pop();
    if (name !== undefined) {
      const parent = this.#enter(names);
      try {
        await this.#put(names, parent, name, entry, content);
      } catch (error) {
        throw inArchive(error, entry.name, this.#path);
      }
    }
    this.entries++;
  }

  [Symbol.dispose](): void {
    if (this.#parent !== undefined) closeSync(this.#parent.fd);
    this.#parent = undefined;
  }

  #enter(names: readonly string[]): number {
    const path = names.join("/");
    if (this.#parent?.path === path) return this.#parent.fd;
    this[Symbol.dispose]();
    try {
      const look = (some: readonly string[]): number => this.#look(some, RESOLVE_BENEATH);
      this.#parent = { path, fd: reach(names, look, this.#ids, 0o755) };
    } catch (error) {
      throw inArchive(error, path, this.#path);
    }
    return this.#parent.fd;
  }

  #look(names: readonly string[], resolve: number): number {
    return openat2(this.#base, names.length === 0 ? "." : names.join("/"), { flags: O_PATH, resolve });
  }

  async #put(
    names: readonly string[],
    parent: number,
    name: string,
    entry: UnpackEntry,
    content: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    switch (entry.type) {
      case "file":
      case "contiguous-file":
        return this.#file(parent, name, entry, content);
      case "directory":
        return this.#directory(names, parent, name, entry.mode);
      case "symlink":
        return this.#appear(parent, name, (fresh) => this.#symlink(parent, fresh, entry.target));
      case "link":
        return this.#appear(parent, name, (fresh) => this.#hardLink(parent, fresh, entry));
      default:
        throw bad(
          this.#path,
          `${entry.name} is a ${entry.type}: only files, directories and links can be unpacked`,
        );
    }
  }

  async #file(
    parent: number,
    name: string,
    entry: UnpackEntry,
    content: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const fresh = freshName();
    const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK;
    using file = new Handle(this.#access, openSync(at(parent, fresh), flags, 0o600), this.#path);
    try {
      await this.#fill(file, entry, content);
      await file.use((fd) => {
        fchownSync(fd, this.#ids.uid, this.#ids.gid);
        fchmodSync(fd, entry.mode);
        futimesSync(fd, entry.modifiedS, entry.modifiedS);
        renameSync(at(parent, fresh), at(parent, name));
      });
    } catch (error) {
      tryUnlink(parent, fresh);
      throw error;
    }
  }

  async #fill(file: Handle, entry: UnpackEntry, content: AsyncIterable<Uint8Array>): Promise<void> {
    if (entry.realSize === undefined) {
      for await (const piece of content) {
        await writePiece(file, piece);
        this.bytes += piece.byteLength;
      }
      return;
    }
    const sparse = new SparseReader(entry.realSize);
    for await (const piece of content)
      for (const { at: offset, bytes } of sparse.push(piece)) {
        await file.use((fd) => writeAll(fd, bytes, offset));
        this.bytes += bytes.byteLength;
      }
    sparse.finish();
    await file.use((fd) => ftruncateSync(fd, entry.realSize));
  }

  /** One that is there keeps its owner and permissions. */
  #directory(names: readonly string[], parent: number, name: string, mode: number): void {
    const look = (some: readonly string[]): number =>
      some.length === 0
        ? openSync(through(parent), O_RDONLY | O_DIRECTORY)
        : this.#look([...names, name], RESOLVE_BENEATH);
    const fd = reach([name], look, this.#ids, mode);
    const isDirectory = closing(fd, () => fstatSync(fd).isDirectory());
    if (!isDirectory) throw bad(this.#path, `something that is no directory is already at ${name}`);
  }

  #symlink(parent: number, fresh: string, target: string): void {
    if (target === "" || target.includes("\0")) throw bad(this.#path, "a link to nothing");
    symlinkSync(target, at(parent, fresh));
    const fd = openSync(at(parent, fresh), O_PATH | O_NOFOLLOW);
    closing(fd, () => {
      const stat = fstatSync(fd);
      // Not what somebody put in its place.
      if (stat.isSymbolicLink() && stat.uid === process.geteuid?.())
        chownSync(through(fd), this.#ids.uid, this.#ids.gid);
    });
  }

  /** To a file below the directory, as a rule one of the same archive. */
  #hardLink(parent: number, fresh: string, entry: UnpackEntry): void {
    const names = namesIn(entry.target, this.#path);
    const target = names.pop();
    if (target === undefined) throw bad(this.#path, `${entry.name} is a link to nothing`);
    const directory = this.#look(names, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    closing(directory, () => {
      if (!lstatSync(at(directory, target)).isFile())
        throw bad(this.#path, `${entry.name} is a hard link to something that is no file`);
      linkSync(at(directory, target), at(parent, fresh));
    });
  }

  /** Under a name of its own first, because only a rename replaces what is there. */
  #appear(parent: number, name: string, make: (fresh: string) => void): void {
    const fresh = freshName();
    try {
      make(fresh);
      renameSync(at(parent, fresh), at(parent, name));
    } finally {
      // Two links of one file are not renamed.
      tryUnlink(parent, fresh);
    }
  }
}

const freshName = (): string => `.ale-${randomBytes(9).toString("base64url")}`;

function tryUnlink(directory: number, name: string): void {
  try {
    unlinkSync(at(directory, name));
  } catch {
    // It has its own name by now, or the sandbox has ended.
  }
}

async function writeAll(fd: number, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; )
    done += (await writeAsync(fd, bytes, done, bytes.byteLength - done, offset + done)).bytesWritten;
}

function namesIn(name: string, path: string): string[] {
  const names = name.split("/").filter((one) => one !== "" && one !== ".");
  if (name.startsWith("/") || names.includes("..") || name.includes("\0"))
    throw bad(path, `the name ${JSON.stringify(name.slice(0, 200))} leads out of the directory`);
  return names;
}

export const bad = (path: string, message: string): Refusal => new Refusal("bad-archive", path, message);

/** What an archive asks for and cannot have is its own fault; a full disk is not. */
function inArchive(error: unknown, name: string, path: string): unknown {
  if (error instanceof RangeError) return bad(path, `${name}: ${error.message}`);
  const code = errnoOf(error);
  // Bytes that cannot be decompressed fail the whole archive, not this name in it.
  if (error instanceof Refusal || code === "" || code.startsWith("Z_")) return error;
  const { type, message } = fileError(error, path);
  if (type === "disk-full" || type === "sandbox-gone") return error;
  return bad(path, `${name} cannot be put there: ${message ?? type}`);
}
