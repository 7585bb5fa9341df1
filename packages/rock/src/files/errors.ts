import { AleError } from "@ale/core";
import type { FileError } from "../port/files.ts";

/** What system calls say about a sandbox's files, in the port's words. */

/** A failure that was found before a system call was made. */
export class Refusal extends Error {
  readonly error: FileError;
  constructor(type: FileError["type"], path: string, message?: string) {
    super(message ?? type);
    this.name = "Refusal";
    this.error = message === undefined ? { type, path } : { type, path, message };
  }
}

const BY_ERRNO: Readonly<Record<string, readonly [FileError["type"], string?]>> = {
  ENOENT: ["not-found"],
  ENOTDIR: ["not-a-directory"],
  EISDIR: ["not-a-file"],
  ENXIO: ["not-a-file", "nobody reads from this pipe or socket"],
  EEXIST: ["exists"],
  ENOTEMPTY: ["not-empty"],
  ENOSPC: ["disk-full", "no space or no inodes left: remove something, or raise limits.diskBytes"],
  EDQUOT: ["disk-full", "the sandbox's quota is used up: remove something, or raise limits.diskBytes"],
  EFBIG: ["disk-full", "larger than the sandbox's file system can hold"],
  ELOOP: ["unsafe-path", "too many links, or a link where none may be"],
  EAGAIN: ["unsafe-path", "the path is being renamed all the time"],
  EXDEV: ["unsafe-path", "it lies on another file system, or leaves its directory"],
  ENAMETOOLONG: ["unsafe-path", "the name is too long"],
  EINVAL: ["unsafe-path", "not possible for this path"],
  EBADF: ["sandbox-gone"],
  ESTALE: ["sandbox-gone"],
};

export const errnoOf = (error: unknown): string => (error as { code?: string } | null)?.code ?? "";

/** Throws what no caller could do anything about, with the path in its message. */
export function fileError(error: unknown, path: string): FileError {
  if (error instanceof Refusal) return error.error;
  const known = BY_ERRNO[errnoOf(error)];
  if (known !== undefined)
    return known[1] === undefined ? { type: known[0], path } : { type: known[0], path, message: known[1] };
  if (error instanceof AleError || !(error instanceof Error) || errnoOf(error) === "") throw error;
  throw new AleError("file-failed", `${path} in the sandbox: ${error.message}`, {
    next: "see whether the host's disk and memory are healthy, then try again",
    cause: error,
  });
}
