import {
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  open,
  readSync,
  unlinkSync,
  write,
} from "node:fs";
import { promisify } from "node:util";
import { AleError } from "@ale/core";
import type { Bytes } from "../port/files.ts";
import { errnoOf, Refusal } from "./errors.ts";
import { type Access, endedWith, Handle } from "./handle.ts";
import { at, closing, find, findOrMakeDirectory, type Ids, namesOf, through, withFound } from "./located.ts";
import { openat2, openUnnoticed, RESOLVE_IN_ROOT } from "./openat2.ts";
import { Pacer } from "./pacer.ts";
import type { Tree } from "./tree.ts";

/** The bytes of files, in and out, in pieces: no file is ever whole in memory unless its caller wants that. */

const { O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK, O_TRUNC, O_APPEND } = constants;
const PIECE_BYTES = 256 * 1024;
const openAsync = promisify(open);
const writeAsync = promisify(write);

/** A regular file, open for reading; every FIFO, socket and directory is refused before it is opened. */
export function openToRead(access: Access, path: string): Handle {
  return withFound(access.tree, path, (found, stat) => {
    if (!stat.isFile()) throw new Refusal("not-a-file", path);
    return new Handle(access, openUnnoticed(through(found)), path);
  });
}

export interface Part {
  readonly offset?: number;
  readonly length?: number;
  readonly maxBytes?: number;
}

const DEFAULT_MAX_BYTES = 16 * 2 ** 20;

export async function readPart(access: Access, path: string, part: Part): Promise<Uint8Array> {
  const { offset = 0, length, maxBytes = DEFAULT_MAX_BYTES } = part;
  for (const [name, value] of Object.entries({ offset, length: length ?? 0, maxBytes }))
    if (!Number.isSafeInteger(value) || value < 0)
      throw new AleError("range-invalid", `${name} of a read must be a whole number from 0, not ${value}`);
  using handle = openToRead(access, path);
  const { size } = await handle.use((fd) => fstatSync(fd));
  const most = length ?? maxBytes;
  if (length === undefined && size - offset > maxBytes) throw tooLarge(path, size - offset, maxBytes);
  const pieces: Buffer[] = [];
  let total = 0;
  for await (const piece of piecesIn(access, handle, offset, length)) {
    total += piece.length;
    // It grew while it was read.
    if (total > most) throw tooLarge(path, total, most);
    pieces.push(piece);
  }
  return new Uint8Array(Buffer.concat(pieces));
}

const tooLarge = (path: string, bytes: number, most: number): Refusal =>
  new Refusal(
    "too-large",
    path,
    `${bytes} bytes, of which ${most} may be read: read it in parts or as a stream`,
  );

export function readAll(access: Access, path: string): AsyncIterable<Uint8Array> {
  const handle = openToRead(access, path);
  const pieces = async function* (): AsyncGenerator<Uint8Array, void, void> {
    using _ = handle;
    yield* piecesIn(access, handle, 0);
  };
  return endedWith(access.tree, path, pieces());
}

/** Reads are short and synchronous, so that they can be told from the sandbox's own. */
export async function* piecesIn(
  access: Access,
  handle: Handle,
  offset: number,
  length = Number.POSITIVE_INFINITY,
): AsyncGenerator<Buffer, void, void> {
  const pacer = new Pacer();
  let left = length;
  for (let position = offset; left > 0; ) {
    await pacer.breathe();
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, left));
    const from = position;
    const n = await handle.use((fd) => access.reads.unseen(() => readSync(fd, piece, 0, piece.length, from)));
    if (n === 0) return;
    position += n;
    left -= n;
    yield piece.subarray(0, n);
  }
}

export interface WriteHow {
  readonly ids: Ids;
  readonly mode?: number;
  readonly append?: boolean;
}

/** Bytes written. What fails half-way leaves no new file; an old one is then cut short. */
export async function writeWhole(access: Access, path: string, data: Bytes, how: WriteHow): Promise<number> {
  const { fd, undo } = await openToWrite(access.tree, path, how);
  using handle = new Handle(access, fd, path);
  try {
    let bytes = 0;
    for await (const piece of piecesOf(data)) {
      await writePiece(handle, piece);
      bytes += piece.byteLength;
    }
    if (undo !== undefined || how.mode !== undefined)
      await handle.use((file) => fchmodSync(file, how.mode ?? 0o644));
    return bytes;
  } catch (error) {
    undo?.();
    throw error;
  }
}

async function* piecesOf(data: Bytes): AsyncGenerator<Uint8Array, void, void> {
  if (typeof data === "string") yield Buffer.from(data, "utf8");
  else if (data instanceof Uint8Array) yield data;
  else yield* fromSource(data);
}

/** Errors of the caller's own stream are told from those of the sandbox's disk. */
export async function* fromSource(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  const iterator = source[Symbol.asyncIterator]();
  let finished = false;
  try {
    for (;;) {
      const next = await iterator.next().catch((cause: unknown) => {
        finished = true;
        throw new SourceFailed(cause);
      });
      finished = next.done === true;
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    if (!finished) await iterator.return?.();
  }
}

export class SourceFailed extends AleError {
  constructor(cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super("source-failed", `what was to be written ended with an error: ${why}`, { cause });
  }
}

/** All of it: a single call may write less. */
export async function writePiece(handle: Handle, piece: Uint8Array): Promise<void> {
  for (let done = 0; done < piece.byteLength; )
    done += await handle.use(
      async (fd) => (await writeAsync(fd, piece, done, piece.byteLength - done, null)).bytesWritten,
    );
}

interface Opened {
  readonly fd: number;
  /** Of a new file: removes it. */
  readonly undo?: () => void;
}

async function openToWrite(tree: Tree, path: string, how: WriteHow): Promise<Opened> {
  // Twice: a file that appears in between is then an old one.
  for (let attempt = 0; attempt < 8; attempt++) {
    const old = await openOld(tree, path, how.append === true);
    if (old !== undefined) return { fd: old };
    const made = openNew(tree, path, how.ids);
    if (made !== undefined) return made;
  }
  throw new Refusal("unsafe-path", path, "it is a link that leads nowhere, or appears and vanishes");
}

async function openOld(tree: Tree, path: string, append: boolean): Promise<number | undefined> {
  let found: number;
  try {
    found = find(tree, path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  return closing(found, () => {
    if (!fstatSync(found).isFile()) throw new Refusal("not-a-file", path);
    // Not on this thread: a file of the image is copied before its first change.
    return openAsync(through(found), O_WRONLY | O_NONBLOCK | (append ? O_APPEND : O_TRUNC));
  });
}

function openNew(tree: Tree, path: string, ids: Ids): Opened | undefined {
  const names = namesOf(path);
  const name = names.pop();
  if (name === undefined) throw new Refusal("not-a-file", path);
  const directory = findOrMakeDirectory(tree, `/${names.join("/")}`, ids, 0o755);
  return closing(directory, () => {
    try {
      const flags = O_WRONLY | O_CREAT | O_EXCL | O_NONBLOCK;
      const fd = openat2(directory, name, { flags, mode: 0o600, resolve: RESOLVE_IN_ROOT });
      fchownSync(fd, ids.uid, ids.gid);
      const { ino } = fstatSync(fd);
      return { fd, undo: () => removeNew(tree, path, ino) };
    } catch (error) {
      if (errnoOf(error) === "EEXIST") return undefined;
      throw error;
    }
  });
}

function removeNew(tree: Tree, path: string, ino: number): void {
  try {
    const names = namesOf(path);
    const name = names.pop() ?? "";
    const directory = find(tree, `/${names.join("/")}`);
    closing(directory, () => {
      if (lstatSync(at(directory, name)).ino === ino) unlinkSync(at(directory, name));
    });
  } catch {
    // The sandbox removed it, or has ended.
  }
}
