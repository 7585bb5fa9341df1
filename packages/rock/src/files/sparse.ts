import { nextData } from "./openat2.ts";
import { BLOCK } from "./tar-header.ts";

/**
 * Files with holes in archives, in GNU's format 1.0: the content begins with a map of the pieces that hold data, as decimal
 * numbers, one a line, filled up to a block. GNU tar, bsdtar and Python read it. Without it a sandbox could make its host read 8 EiB of zeros.
 */

export interface Piece {
  readonly offset: number;
  readonly length: number;
}

/** More pieces than this are not told apart. */
const MAX_PIECES = 10_000;
/** Longest map that is read. */
const MAX_MAP_BYTES = 2 ** 20;

/** Undefined where the file has no holes worth the trouble. */
export function piecesOfSparse(fd: number, size: number, blocks: number): readonly Piece[] | undefined {
  if (blocks * 512 + 64 * 1024 >= size) return undefined;
  const pieces: Piece[] = [];
  for (let at = 0; at < size; ) {
    const data = nextData(fd, at);
    if (data === undefined || data.start >= size) break;
    const last = pieces.length === MAX_PIECES - 1;
    const end = last ? size : Math.min(data.end, size);
    pieces.push({ offset: data.start, length: end - data.start });
    at = end;
  }
  // A file that ends in a hole says where it ends.
  const end = pieces.at(-1);
  if (end === undefined || end.offset + end.length < size) pieces.push({ offset: size, length: 0 });
  return pieces;
}

export function encodeMap(pieces: readonly Piece[]): Buffer {
  const lines = [pieces.length, ...pieces.flatMap(({ offset, length }) => [offset, length])];
  const text = Buffer.from(`${lines.join("\n")}\n`);
  return Buffer.concat([text, Buffer.alloc((BLOCK - (text.length % BLOCK)) % BLOCK)]);
}

export const sparseRecords = (name: string, size: number): Readonly<Record<string, string>> => ({
  "GNU.sparse.major": "1",
  "GNU.sparse.minor": "0",
  "GNU.sparse.name": name,
  "GNU.sparse.realsize": String(size),
});

/** Reads the map at the head of a content that comes in parts, then says where every byte belongs. Throws a RangeError. */
export class SparseReader {
  #head: Buffer = Buffer.alloc(0);
  #pieces: Piece[] | undefined;
  readonly #size: number;

  constructor(size: number) {
    if (!Number.isSafeInteger(size) || size < 0) throw new RangeError("a sparse file without a size");
    this.#size = size;
  }

  *push(chunk: Uint8Array): Generator<{ at: number; bytes: Uint8Array }> {
    let rest: Uint8Array = chunk;
    if (this.#pieces === undefined) {
      this.#head = Buffer.concat([this.#head, chunk]);
      const parsed = parseMap(this.#head, this.#size);
      if (parsed === undefined) {
        if (this.#head.length > MAX_MAP_BYTES) throw new RangeError("an endless map of a sparse file");
        return;
      }
      this.#pieces = parsed.pieces;
      rest = this.#head.subarray(parsed.bytes);
      this.#head = Buffer.alloc(0);
    }
    while (rest.length > 0) {
      const piece = this.#pieces.shift();
      if (piece === undefined) throw new RangeError("a sparse file holds more than its map says");
      const n = Math.min(piece.length, rest.length);
      if (n < piece.length) this.#pieces.unshift({ offset: piece.offset + n, length: piece.length - n });
      if (n > 0) yield { at: piece.offset, bytes: rest.subarray(0, n) };
      rest = rest.subarray(n);
    }
  }

  /** Throws a RangeError where something is missing. */
  finish(): void {
    if (this.#pieces?.every((piece) => piece.length === 0) !== true)
      throw new RangeError("a sparse file holds less than its map says");
  }
}

/** Undefined until the map is whole. */
function parseMap(head: Buffer, size: number): { pieces: Piece[]; bytes: number } | undefined {
  const numbers: number[] = [];
  let at = 0;
  for (let wanted = 1; numbers.length < wanted; ) {
    const end = head.indexOf(10, at);
    if (end < 0) return undefined;
    const text = head.toString("latin1", at, end);
    if (!/^\d{1,16}$/.test(text)) throw new RangeError("a map of a sparse file that is none");
    numbers.push(Number(text));
    if (numbers.length === 1) wanted = 1 + 2 * numbers[0]!;
    at = end + 1;
  }
  const bytes = Math.ceil(at / BLOCK) * BLOCK;
  if (head.length < bytes) return undefined;
  const pieces: Piece[] = [];
  for (let i = 1; i < numbers.length; i += 2) pieces.push({ offset: numbers[i]!, length: numbers[i + 1]! });
  if (pieces.some(({ offset, length }) => offset + length > size))
    throw new RangeError("a sparse file with data after its end");
  return { pieces, bytes };
}
