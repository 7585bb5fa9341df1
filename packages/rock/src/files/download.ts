import { constants, fstatSync, readlinkSync, type Stats } from "node:fs";
import { piecesIn } from "./content.ts";
import { errnoOf, Refusal } from "./errors.ts";
import { type Access, endedWith, Handle } from "./handle.ts";
import { atBytes, closing, find, namesOf, through } from "./located.ts";
import { openUnnoticed } from "./openat2.ts";
import { encodeMap, type Piece, piecesOfSparse, sparseRecords } from "./sparse.ts";
import { END_OF_ARCHIVE, padding, type TarEntry, tarHeader } from "./tar-header.ts";
import { walk } from "./walk.ts";

/**
 * A file or a directory as a tar archive, while the sandbox goes on changing it. The archive is always well-formed: a file that grows
 * is cut where it ended when it was opened, one that shrinks is filled with zeros, and what vanishes is left out. Links are links; hard links are
 * files of their own; sockets, FIFOs and devices are left out.
 */

const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = constants;
const BATCH_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(BATCH_BYTES);

/** `as`: the name in the archive, "." for names relative to the path itself. Default: the path's own. */
export function archiveOf(access: Access, path: string, as?: string): AsyncIterable<Uint8Array> {
  const name = Buffer.from(as ?? namesOf(path).at(-1) ?? ".").toString("latin1");
  const top = new Handle(access, find(access.tree, path), path);
  return endedWith(access.tree, path, batched(entries(access, top, name, path)));
}

async function* entries(
  access: Access,
  top: Handle,
  name: string,
  path: string,
): AsyncGenerator<Buffer, void, void> {
  using _ = top;
  const stat = await top.use((fd) => fstatSync(fd));
  if (stat.isFile()) {
    const file = new Handle(access, await top.use((fd) => openUnnoticed(through(fd))), path);
    yield* fileEntry(access, file, name);
  } else if (stat.isDirectory()) {
    yield tarHeader(entryOf(access, `${name}/`, "directory", stat));
    const directory = await top.use((fd) => fd);
    for await (const step of walk(directory)) {
      if (step.type === "left") continue;
      const inner = name === "." ? step.path : `${name}/${step.path}`;
      const type = step.stat.isDirectory() ? "directory" : step.stat.isSymbolicLink() ? "symlink" : "file";
      if (type === "directory") yield tarHeader(entryOf(access, `${inner}/`, type, step.stat));
      else if (type === "symlink") {
        const target = tryReadlink(step.directory, step.name);
        if (target !== undefined) yield tarHeader({ ...entryOf(access, inner, type, step.stat), target });
      } else if (step.stat.isFile()) {
        const file = tryOpenFile(access, step.directory, step.name, path);
        if (file !== undefined) yield* fileEntry(access, file, inner);
      }
    }
  } else throw new Refusal("not-a-file", path);
  yield END_OF_ARCHIVE;
}

function entryOf(access: Access, name: string, type: TarEntry["type"], stat: Stats): TarEntry {
  const { ids } = access.tree;
  return {
    name,
    type,
    size: 0,
    mode: stat.mode & 0o7777,
    uid: ids.toSandbox(stat.uid),
    gid: ids.toSandbox(stat.gid),
    modifiedS: Math.floor(stat.mtimeMs / 1000),
  };
}

async function* fileEntry(access: Access, file: Handle, name: string): AsyncGenerator<Buffer, void, void> {
  using _ = file;
  const stat = await file.use((fd) => fstatSync(fd));
  const { size } = stat;
  const entry = entryOf(access, name, "file", stat);
  const sparse = await file.use((fd) => piecesOfSparse(fd, size, stat.blocks));
  if (sparse === undefined) {
    yield tarHeader({ ...entry, size });
    yield* exactly(access, file, [{ offset: 0, length: size }]);
    yield padding(size);
    return;
  }
  const map = encodeMap(sparse);
  const stored = map.length + sparse.reduce((total, piece) => total + piece.length, 0);
  const pax = sparseRecords(name, size);
  yield tarHeader({ ...entry, name: `GNUSparseFile.0/${name}`.slice(0, 100), size: stored, pax });
  yield map;
  yield* exactly(access, file, sparse);
  yield padding(stored);
}

/** As many bytes as were promised, whatever the file holds by now. */
async function* exactly(
  access: Access,
  file: Handle,
  pieces: readonly Piece[],
): AsyncGenerator<Buffer, void, void> {
  for (const { offset, length } of pieces) {
    let left = length;
    for await (const bytes of piecesIn(access, file, offset, length)) {
      left -= bytes.length;
      yield bytes;
    }
    for (; left > 0; left -= Math.min(left, ZEROS.length))
      yield ZEROS.subarray(0, Math.min(left, ZEROS.length));
  }
}

/** Undefined where it is gone, or something else by now. */
function tryOpenFile(access: Access, directory: number, name: string, path: string): Handle | undefined {
  try {
    const fd = openUnnoticed(atBytes(directory, name), O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    const isFile = fstatSync(fd).isFile();
    if (isFile) return new Handle(access, fd, path);
    closing(fd, () => {});
    return undefined;
  } catch (error) {
    if (["ENOENT", "ELOOP", "ENXIO"].includes(errnoOf(error))) return undefined;
    throw error;
  }
}

function tryReadlink(directory: number, name: string): string | undefined {
  try {
    return readlinkSync(atBytes(directory, name), { encoding: "latin1" });
  } catch (error) {
    if (["ENOENT", "EINVAL"].includes(errnoOf(error))) return undefined;
    throw error;
  }
}

/** Small pieces together, for the sake of those who send them on. */
async function* batched(pieces: AsyncGenerator<Buffer, void, void>): AsyncGenerator<Uint8Array, void, void> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    if (piece.length === 0) continue;
    waiting.push(piece);
    bytes += piece.length;
    if (bytes < BATCH_BYTES) continue;
    yield waiting.length === 1 ? piece : Buffer.concat(waiting);
    waiting = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(waiting);
}
