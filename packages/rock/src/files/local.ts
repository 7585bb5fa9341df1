import { join } from "node:path";
import { IDENTITY } from "../host/idmap.ts";
import type { FileError } from "../port/files.ts";
import { archiveOf } from "./download.ts";
import { fileError } from "./errors.ts";
import { type Access, thrown } from "./handle.ts";
import { Tree } from "./tree.ts";
import { type UnpackOptions, type Uploaded, unpackInto } from "./upload.ts";

/**
 * Directories of this machine as archives and back, with the same care: what comes out of a sandbox is unpacked as if somebody tried to get
 * out of the directory, and what changes while it is packed does no harm.
 */

const accessTo = (tree: Tree): Access => ({ tree, reads: { unseen: (work) => work() } });

/** Names in it are relative to the directory. Throws what the system says where it is none. */
export async function* packDirectory(directory: string): AsyncGenerator<Uint8Array, void, void> {
  const tree = new Tree(directory, IDENTITY);
  try {
    yield* archiveOf(accessTo(tree), "/", ".");
  } finally {
    tree.close();
  }
}

/** Into a directory that is there; everything belongs to this process's user. Throws an AleError. */
export async function unpackDirectory(
  directory: string,
  archive: AsyncIterable<Uint8Array>,
  options: UnpackOptions = {},
): Promise<Uploaded> {
  const tree = new Tree(directory, IDENTITY);
  const ids = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  try {
    return await unpackInto(accessTo(tree), "/", archive, ids, options);
  } catch (error) {
    throw thrown(onThisMachine(fileError(error, directory), directory));
  } finally {
    tree.close();
  }
}

/** The words are those for sandboxes, which see the directory as `/` and have limits that can be raised. */
function onThisMachine(error: FileError, directory: string): FileError {
  const path = error.path.startsWith(directory) ? error.path : join(directory, error.path);
  if (error.type !== "disk-full") return { ...error, path };
  const message = error.message?.replace(
    /: remove something, or raise limits\.diskBytes/,
    " on this machine",
  );
  return { ...error, path, ...(message === undefined ? {} : { message }) };
}
