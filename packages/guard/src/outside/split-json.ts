import { excerptOf, MAX_RECORD_BYTES, type Place, type Split, type Splitter } from "./split.ts";

/**
 * JSON values out of a stream of bytes: one a line, several lines each, or the elements of one array. What is cut off or is no JSON is a
 * fault with its place, and reading goes on with the next value. Keeps no more than one value in memory.
 */

const [QUOTE, COMMA, COLON, BACKSLASH, NEWLINE] = [0x22, 0x2c, 0x3a, 0x5c, 0x0a];
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d];
const isSpace = (byte: number): boolean => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
const opens = (byte: number): boolean => byte === OPEN_BRACE || byte === OPEN_BRACKET;
const closes = (byte: number): boolean => byte === CLOSE_BRACE || byte === CLOSE_BRACKET;

/** What exports wrap their records in: Azure `records`, CloudWatch `events` … */
const WRAPPER = /^\s*\{\s*"(?:records|Records|events|entries|logs)"\s*:\s*\[/;

export class JsonSplitter implements Splitter {
  readonly #array: boolean;
  readonly #wrapped: boolean;
  /** Bytes that are left until the first element of an array. */
  #prefix: number;
  #state: "between" | "value" | "junk" = "between";
  /** The array has ended. */
  #closed = false;
  #offset = 0;
  #line = 1;
  #elements = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** The last byte of the value that is neither space nor in a string. */
  #last = 0;
  #atLineStart = true;
  #start: Place = { line: 1, offset: 0 };
  #kept: Uint8Array[] = [];
  #keptBytes = 0;

  /** `head` is the beginning of the text. */
  constructor(head: string) {
    const wrapper = WRAPPER.exec(head)?.[0];
    const opening = wrapper ?? /^\s*\[/.exec(head)?.[0] ?? "";
    this.#array = opening !== "";
    this.#wrapped = wrapper !== undefined;
    this.#prefix = opening.length;
  }

  push(chunk: Uint8Array): Split[] {
    const found: Split[] = [];
    let from = 0;
    for (let i = 0; i < chunk.length; i++, this.#offset++) {
      const byte = chunk[i]!;
      if (this.#prefix > 0) this.#prefix--;
      else if (this.#state === "value" && !this.#isTornBy(byte)) {
        if (this.#endsValue(byte)) found.push(this.#whole(chunk.subarray(from, i + 1)));
      } else if (this.#state !== "junk" || this.#endsJunk(byte)) {
        if (this.#state !== "between") found.push(this.#broken(chunk.subarray(from, i)));
        if (this.#begins(byte)) from = i;
      }
      this.#atLineStart = byte === NEWLINE;
      if (this.#atLineStart) this.#line++;
    }
    if (this.#state !== "between") this.#keep(chunk.subarray(from));
    return found;
  }

  end(): Split[] {
    if (this.#state !== "between") return [this.#broken(new Uint8Array())];
    if (!this.#array || this.#closed) return [];
    const place = { line: this.#line, offset: this.#offset };
    const message = `the array is not closed: cut off after element ${this.#elements}`;
    return [{ ok: false, place, message }];
  }

  /** No string spans lines; and where no array says otherwise, a line that begins with a brace begins a record. */
  #isTornBy(byte: number): boolean {
    if (this.#inString) return byte === NEWLINE;
    if (byte !== OPEN_BRACE || !this.#atLineStart) return false;
    return !this.#array || !(this.#last === COMMA || this.#last === COLON || opens(this.#last));
  }

  #endsValue(byte: number): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) this.#inString = false;
      return false;
    }
    if (isSpace(byte)) return false;
    this.#last = byte;
    if (byte === QUOTE) this.#inString = true;
    else if (opens(byte)) this.#depth++;
    else if (closes(byte)) this.#depth--;
    return this.#depth === 0;
  }

  #endsJunk(byte: number): boolean {
    return byte === NEWLINE || (this.#array && !this.#closed && (byte === COMMA || byte === CLOSE_BRACKET));
  }

  /** Whether something begins with this byte, which stands outside of all values. */
  #begins(byte: number): boolean {
    if (isSpace(byte) || (this.#closed && this.#wrapped)) return false;
    if (this.#array && !this.#closed) {
      if (byte === COMMA) return false;
      if (byte === CLOSE_BRACKET) {
        this.#closed = true;
        return false;
      }
      this.#elements++;
    }
    const element = this.#array && !this.#closed ? { element: this.#elements } : {};
    this.#start = { line: this.#line, offset: this.#offset, ...element };
    this.#state = opens(byte) && !this.#closed ? "value" : "junk";
    [this.#depth, this.#inString, this.#escaped, this.#last] = [1, false, false, byte];
    return true;
  }

  #keep(bytes: Uint8Array): void {
    this.#keptBytes += bytes.length;
    if (this.#keptBytes - bytes.length <= MAX_RECORD_BYTES) this.#kept.push(bytes.slice());
  }

  #take(rest: Uint8Array): Uint8Array {
    this.#keep(rest);
    const bytes = this.#kept.length === 1 ? this.#kept[0]! : Buffer.concat(this.#kept);
    [this.#kept, this.#state] = [[], "between"];
    return bytes;
  }

  #whole(rest: Uint8Array): Split {
    const place = this.#start;
    const bytes = this.#take(rest);
    const length = this.#keptBytes;
    this.#keptBytes = 0;
    if (length > MAX_RECORD_BYTES)
      return { ok: false, place, message: `a record of ${length} bytes: more than ${MAX_RECORD_BYTES}` };
    try {
      return { ok: true, place, value: JSON.parse(Buffer.from(bytes).toString("utf8")) };
    } catch (error) {
      return { ok: false, place, message: `not JSON: ${(error as Error).message}` };
    }
  }

  #broken(rest: Uint8Array): Split {
    const place = this.#start;
    const wasValue = this.#state === "value";
    const bytes = this.#take(rest);
    this.#keptBytes = 0;
    const what = this.#closed ? "after the end of the array" : "not JSON";
    const why = wasValue ? "it is cut off" : "no object";
    return { ok: false, place, message: `${what}: ${why}, it begins with ${excerptOf(bytes)}` };
  }
}
