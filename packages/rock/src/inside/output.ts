import type { Captured } from "./control.ts";

/** Turns the kept bytes of a stream into text with at most `limit` bytes, saying in the middle how much was left out. */

const whole = new TextDecoder("utf-8");

export function isTruncated(captured: Captured): boolean {
  return captured.total > captured.head.length + captured.tail.length;
}

export function render(captured: Captured, limit: number): { text: string; truncated: boolean } {
  const { total, head, tail } = captured;
  if (!isTruncated(captured)) {
    const text = whole.decode(Buffer.concat([head, tail]));
    // Every invalid byte becomes a three-byte character, so that text may outgrow its bytes.
    if (Buffer.byteLength(text) <= limit) return { text, truncated: false };
    return { text: shorten(text, limit, total), truncated: true };
  }
  return {
    text: join(whole.decode(endAtCharacter(head)), whole.decode(startAtCharacter(tail)), limit, total),
    truncated: true,
  };
}

function shorten(text: string, limit: number, total: number): string {
  return join(text, text, limit, total);
}

function join(head: string, tail: string, limit: number, total: number): string {
  const longest = marker(total);
  const room = Math.max(0, limit - Buffer.byteLength(longest));
  const front = firstBytes(head, Math.ceil(room / 2));
  const back = lastBytes(tail, Math.floor(room / 2));
  const kept = Buffer.byteLength(front) + Buffer.byteLength(back);
  return `${front}${limit > Buffer.byteLength(longest) ? marker(Math.max(0, total - kept)) : ""}${back}`;
}

const marker = (bytes: number): string => `\n[... ${bytes} bytes left out ...]\n`;

function firstBytes(text: string, size: number): string {
  return whole.decode(endAtCharacter(Buffer.from(text).subarray(0, size)));
}

function lastBytes(text: string, size: number): string {
  const bytes = Buffer.from(text);
  return whole.decode(startAtCharacter(bytes.subarray(Math.max(0, bytes.length - size))));
}

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80;

/** Without the beginning of a character that the cut took apart. */
export function endAtCharacter(bytes: Buffer): Buffer {
  let start = bytes.length - 1;
  while (start >= 0 && bytes.length - start < 4 && isContinuation(bytes[start])) start--;
  const lead = bytes[start];
  if (lead === undefined || lead < 0xc0) return bytes;
  const needs = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  return bytes.length - start < needs ? bytes.subarray(0, start) : bytes;
}

/** Without the end of a character that the cut took apart. */
export function startAtCharacter(bytes: Buffer): Buffer {
  let start = 0;
  while (start < 3 && isContinuation(bytes[start])) start++;
  return bytes.subarray(start);
}
