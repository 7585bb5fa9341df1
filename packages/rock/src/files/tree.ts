import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  mkdirSync,
  openSync,
  readSync,
  type Stats,
  writeFileSync,
} from "node:fs";
import { AleError, err, ok, type Result, type SandboxFile } from "@ale/core";
import { IDENTITY, type IdMap } from "../host/idmap.ts";
import { AGENT } from "../image/bootstrap.ts";
import type { FileError } from "../port/files.ts";
import { O_NOATIME } from "./openat2.ts";

/**
 * File access from outside into a root filesystem that hostile processes change at the same time. Every path is walked one
 * component at a time from an open directory, and no symbolic link is followed anywhere: whatever the sandbox plants, nothing
 * outside the root is reached, and nothing inside it that the caller did not name.
 */

const { O_RDONLY, O_WRONLY, O_CREAT, O_NOFOLLOW, O_DIRECTORY, O_NONBLOCK } = constants;
/** Older than any file of a sandbox, so that the first read moves the access time even where atime is relative. */
export const UNREAD_ATIME_S = 86_400;

const at = (directory: number, name: string): string => `/proc/self/fd/${directory}/${name}`;

/** Of a file or directory of the sandbox, inside. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** On the host. */
function ownerIds(owner: SandboxFile["owner"], tree: { ids: IdMap; agent: Owner }): Owner {
  const { uid, gid } = owner === "agent" ? tree.agent : { uid: 0, gid: 0 };
  return { uid: tree.ids.toHost(uid), gid: tree.ids.toHost(gid) };
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? "";

/** Components of an absolute path; undefined where it climbs or names nothing. */
export function components(path: string): string[] | undefined {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  return path.startsWith("/") && !names.includes("..") && !path.includes("\0") ? names : undefined;
}

/** A root filesystem, open for work from outside. Owns one descriptor. */
export class Tree {
  #root: number;
  readonly #ids: IdMap;
  readonly #releases = new Set<() => void>();
  /** Whom the owner "agent" means: the sandbox's own user. */
  agent: Owner = AGENT;

  constructor(path: string, ids: IdMap = IDENTITY) {
    this.#ids = ids;
    this.#root = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }

  /** Its own descriptor. EBADF awaits who uses it after `close`. */
  get root(): number {
    return this.#root;
  }

  get ids(): IdMap {
    return this.#ids;
  }

  /** `release` is called when the tree is closed, unless the function that is returned was called before. */
  onClose(release: () => void): () => void {
    this.#releases.add(release);
    return () => this.#releases.delete(release);
  }

  close(): void {
    for (const release of [...this.#releases]) release();
    this.#releases.clear();
    if (this.#root >= 0) closeSync(this.#root);
    this.#root = -1;
  }

  /** Creates missing directories as root's; the last one belongs to `owner`. */
  makeDirectory(path: string, owner: SandboxFile["owner"]): Result<void, FileError> {
    const names = components(path);
    if (names === undefined) return err({ type: "unsafe-path", path });
    return this.#within(names, { path, create: true }, (directory) => {
      const { uid, gid } = ownerIds(owner, { ids: this.#ids, agent: this.agent });
      if (names.length > 0) fchownSync(directory, uid, gid);
      return ok(undefined);
    });
  }

  /**
   * Writes one file whole, making its directories. Directories that are missing belong to the file's owner. A symbolic link or
   * another special file at the path is an `unsafe-path`. `onWritten` gets the
   * descriptor of the finished file.
   */
  write(file: SandboxFile, onWritten: (fd: number) => void = () => {}): Result<void, FileError> {
    const { path, content, mode } = file;
    const names = components(path);
    const name = names?.pop();
    if (names === undefined || name === undefined) return err({ type: "unsafe-path", path });
    return this.#within(names, { path, create: true, owner: file.owner }, (directory) => {
      const fd = openSync(at(directory, name), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
      try {
        const stat = fstatSync(fd);
        // A second hard link would let the sandbox name a file that the caller did not mean.
        if (!stat.isFile() || stat.nlink > 1) return err({ type: "unsafe-path", path });
        ftruncateSync(fd, 0);
        writeFileSync(fd, content);
        const { uid, gid } = ownerIds(file.owner, { ids: this.#ids, agent: this.agent });
        fchownSync(fd, uid, gid);
        fchmodSync(fd, mode);
        futimesSync(fd, UNREAD_ATIME_S, Date.now() / 1000);
        onWritten(fd);
        return ok(undefined);
      } finally {
        closeSync(fd);
      }
    });
  }

  read(path: string, maxBytes: number): Result<Uint8Array, FileError> {
    return this.open(path, (fd, stat) => {
      if (!stat.isFile()) return err({ type: "not-a-file", path });
      if (stat.size > maxBytes) return err({ type: "too-large", path });
      return readUpTo(fd, maxBytes, path);
    });
  }

  /** Opens anything but a symbolic link, without leaving a trace of having read it. */
  open<T>(path: string, use: (fd: number, stat: Stats) => Result<T, FileError>): Result<T, FileError> {
    const names = components(path);
    if (names === undefined) return err({ type: "unsafe-path", path });
    const name = names.pop();
    return this.#within(names, { path, create: false }, (directory) => {
      const fd = openSync(at(directory, name ?? "."), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME);
      try {
        return use(fd, fstatSync(fd));
      } finally {
        closeSync(fd);
      }
    });
  }

  #within<T>(
    names: readonly string[],
    options: { path: string; create: boolean; owner?: SandboxFile["owner"] },
    use: (directory: number) => Result<T, FileError>,
  ): Result<T, FileError> {
    const { path } = options;
    let directory = -1;
    try {
      directory = openSync(at(this.#root, "."), O_RDONLY | O_DIRECTORY);
      for (const name of names) {
        const next = enter(directory, name, { ...options, ids: this.#ids, agent: this.agent });
        closeSync(directory);
        directory = next;
      }
      return use(directory);
    } catch (error) {
      return err(asFileError(error, path));
    } finally {
      if (directory >= 0) closeSync(directory);
    }
  }
}

function enter(
  directory: number,
  name: string,
  options: { create: boolean; owner?: SandboxFile["owner"]; ids: IdMap; agent: Owner },
): number {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  try {
    return openSync(at(directory, name), flags);
  } catch (error) {
    if (!options.create || codeOf(error) !== "ENOENT") throw error;
  }
  try {
    mkdirSync(at(directory, name), 0o755);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
    // The sandbox was quicker. What it made is its own; a link is refused.
    return openSync(at(directory, name), flags);
  }
  const fd = openSync(at(directory, name), flags);
  const { uid, gid } = ownerIds(options.owner ?? "root", options);
  fchownSync(fd, uid, gid);
  return fd;
}

function readUpTo(fd: number, maxBytes: number, path: string): Result<Uint8Array, FileError> {
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(64 * 1024);
    const n = readSync(fd, chunk);
    if (n === 0) return ok(new Uint8Array(Buffer.concat(chunks)));
    total += n;
    // It grew while it was read.
    if (total > maxBytes) return err({ type: "too-large", path });
    chunks.push(chunk.subarray(0, n));
  }
}

function asFileError(error: unknown, path: string): FileError {
  const code = codeOf(error);
  if (code === "ENOENT") return { type: "not-found", path };
  // O_NOFOLLOW on a link gives ELOOP, with O_DIRECTORY ENOTDIR; ENXIO is a socket or a pipe without a reader.
  if (code === "ELOOP" || code === "ENOTDIR" || code === "ENXIO" || code === "EISDIR")
    return { type: "unsafe-path", path };
  if (code === "ENOSPC")
    throw new AleError("sandbox-disk-full", `no space left in the sandbox to write ${path}`, {
      next: "raise limits.diskBytes of the instance",
      cause: error,
    });
  throw error;
}
