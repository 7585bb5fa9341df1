/** Where a record stands in its file. */
export interface Place {
  /** From 1. */
  readonly line: number;
  /** Bytes from the beginning. */
  readonly offset: number;
  /** Of an array, from 1. */
  readonly element?: number;
}

/** A record, or what could not be read there. */
export type Split =
  | { readonly ok: true; readonly place: Place; readonly value: unknown }
  | { readonly ok: false; readonly place: Place; readonly message: string };

/** Takes a file apart as it comes: each byte is given once, in order; then `end`. */
export interface Splitter {
  push(chunk: Uint8Array): Split[];
  end(): Split[];
}

/** What is longer is no record, and is not kept in memory. */
export const MAX_RECORD_BYTES = 16 << 20;

/** The first characters of what is not understood, for a message. */
export function excerptOf(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 200)).toString("utf8").trim();
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
