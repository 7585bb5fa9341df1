import { AleError } from "@ale/core";

/** One range of a `Range` header (RFC 9110 §14), in a file of `size` bytes. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** undefined: the whole file (no header, another unit, several ranges: a server may ignore those). Throws `range-not-satisfiable`. */
export function byteRange(header: string | undefined, size: number): ByteRange | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? "");
  if (match === null || (match[1] === "" && match[2] === "")) return undefined;
  const [first, last] = [match[1]!, match[2]!];
  const begin = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size - 1 : Math.min(Number(last), size - 1);
  if (begin >= size || end < begin)
    throw new AleError("range-not-satisfiable", `the file has ${size} bytes, the range is ${header}`);
  return { offset: begin, length: end - begin + 1 };
}
