import type { Result } from "@ale/core";

/**
 * Files of a sandbox, reached from outside without disturbing it. Links are resolved inside the sandbox's root, as a process of the
 * sandbox would; nothing that it plants makes the host read or write anywhere else.
 */

export type FileError = {
  readonly type:
    | "not-found"
    | "not-a-file"
    | "not-a-directory"
    | "exists"
    | "not-empty"
    | "too-large"
    | "unsafe-path"
    | "disk-full"
    | "bad-archive"
    | "sandbox-gone";
  readonly path: string;
  readonly message?: string;
};

export type FileResult<T> = Promise<Result<T, FileError>>;

export interface FileStat {
  readonly path: string;
  readonly type: "file" | "directory" | "symlink" | "fifo" | "socket" | "device";
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  /** As processes of the sandbox see them. */
  readonly uid: number;
  readonly gid: number;
  readonly modifiedMs: number;
  /** Of a symbolic link. */
  readonly target?: string;
}

export interface WriteOptions {
  /** Default: 0o644 for a new file, unchanged for an old one. */
  readonly mode?: number;
  /** Owner of what is new: name or "uid[:gid]". Default: the spec's user. */
  readonly user?: string;
  readonly append?: boolean;
}

export interface FileChange {
  /** `lost`: there were more changes below this path than could be followed; look at it again. */
  readonly type: "created" | "changed" | "removed" | "lost";
  readonly path: string;
}

export type Bytes = string | Uint8Array | AsyncIterable<Uint8Array>;

export interface SandboxFiles {
  /** Of the link itself where the path names one, unless `followLinks`. */
  stat(path: string, options?: { readonly followLinks?: boolean }): FileResult<FileStat>;
  /** The entries of a directory, with `recursive` all below it: siblings sorted by their bytes, a directory before what lies in it. At most `limit` (default 10,000); `more` says that there are others. */
  list(
    path: string,
    options?: { readonly recursive?: boolean; readonly limit?: number },
  ): FileResult<{ readonly entries: readonly FileStat[]; readonly more: boolean }>;
  /** A part of a file in memory. Default `maxBytes`: 16 MiB; a larger file is `too-large` unless `length` is given. */
  read(
    path: string,
    options?: { readonly offset?: number; readonly length?: number; readonly maxBytes?: number },
  ): FileResult<Uint8Array>;
  /** The bytes of a file of any size, never whole in memory. Throws an AleError where the sandbox ends first. */
  readStream(path: string): FileResult<AsyncIterable<Uint8Array>>;
  /** Whole, in place, making missing directories. A stream is never whole in memory; where it fails, `source-failed` is thrown and no new file is left. */
  write(path: string, data: Bytes, options?: WriteOptions): FileResult<{ readonly bytes: number }>;
  /** With its parents. An existing directory is no error. */
  makeDirectory(path: string, options?: { readonly mode?: number; readonly user?: string }): FileResult<void>;
  /** A link itself, never what it leads to. */
  remove(path: string, options?: { readonly recursive?: boolean }): FileResult<void>;
  /** To a new name, not into a directory. A directory of the image cannot be moved (`unsafe-path`). */
  move(from: string, to: string, options?: { readonly overwrite?: boolean }): FileResult<void>;
  /** Owner and group of a file or, with `recursive`, of all below it. */
  changeOwner(path: string, user: string, options?: { readonly recursive?: boolean }): FileResult<void>;
  changeMode(path: string, mode: number, options?: { readonly recursive?: boolean }): FileResult<void>;
  /**
   * Unpacks a tar stream (plain or gzip) below a directory that is made where missing. What is there is replaced; owners in the archive do not
   * count. `bad-archive`: a name or a link on the way that leads out of the directory, a device, or an archive that is damaged or breaks
   * off. Then the message says how many entries are in place; each of them is whole.
   */
  upload(
    directory: string,
    tar: AsyncIterable<Uint8Array>,
    options?: { readonly user?: string },
  ): FileResult<{ readonly entries: number; readonly bytes: number }>;
  /**
   * A file or a directory as a tar stream; names are relative to the path's parent. Always well-formed, also while files change. Links below the
   * path stay links; sockets, FIFOs and devices are left out. The stream throws an AleError where the sandbox ends before it does.
   */
  download(path: string): FileResult<AsyncIterable<Uint8Array>>;
  /** Changes below a path, until the signal, the sandbox's end, or that of what is watched. Throws an AleError. */
  watch(
    path: string,
    options: { readonly recursive?: boolean },
    signal: AbortSignal,
  ): AsyncIterable<FileChange>;
}
