/** Text as Python programs expect it: how they write a string, and how they name encodings. Pure. */

/** `repr(text)`: ROCK puts commands and outputs into its error messages this way. */
export function repr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let out = "";
  for (const char of text) {
    const code = char.codePointAt(0)!;
    if (char === "\\") out += "\\\\";
    else if (char === quote) out += `\\${quote}`;
    else if (char === "\n") out += "\\n";
    else if (char === "\r") out += "\\r";
    else if (char === "\t") out += "\\t";
    else if (code < 0x20 || (code >= 0x7f && code < 0xa1)) out += `\\x${code.toString(16).padStart(2, "0")}`;
    else out += char;
  }
  return quote + out + quote;
}

export type DecodeErrors = "strict" | "ignore" | "replace" | "backslashreplace";
export const DECODE_ERRORS: readonly DecodeErrors[] = ["strict", "ignore", "replace", "backslashreplace"];

/** Python calls the encodings below by names that the web does not know, or means others by them. */
const LATIN_1: ReadonlySet<string> = new Set(["latin1", "iso88591", "l1"]);

/** The text, or undefined where the bytes are none in this encoding and `errors` is strict. Throws a RangeError for an unknown encoding. */
export function decode(bytes: Uint8Array, encoding: string, errors: DecodeErrors): string | undefined {
  const name = encoding.toLowerCase().replaceAll(/[-_ ]/g, "");
  if (LATIN_1.has(name)) return Buffer.from(bytes).toString("latin1");
  if (name === "ascii" || name === "usascii")
    return bytes.every((byte) => byte < 0x80) || errors !== "strict"
      ? repaired(bytes, (byte) => byte < 0x80, errors)
      : undefined;
  const label = encoding.replaceAll("_", "-");
  try {
    return new TextDecoder(label, { fatal: true, ignoreBOM: name !== "utf8sig" }).decode(bytes);
  } catch (error) {
    if (error instanceof RangeError) throw error;
  }
  if (errors === "strict") return undefined;
  const text = new TextDecoder(label, { ignoreBOM: true }).decode(bytes);
  if (errors === "replace") return text;
  if (errors === "ignore") return text.replaceAll("�", "");
  return backslashed(bytes);
}

const repaired = (bytes: Uint8Array, isGood: (byte: number) => boolean, errors: DecodeErrors): string => {
  const bad = (byte: number): string =>
    errors === "ignore" ? "" : errors === "replace" ? "�" : `\\x${byte.toString(16).padStart(2, "0")}`;
  return Array.from(bytes, (byte) => (isGood(byte) ? String.fromCharCode(byte) : bad(byte))).join("");
};

/** UTF-8 with every byte that is part of no character written as \xNN. */
function backslashed(bytes: Uint8Array): string {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let out = "";
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at]!;
    const length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    try {
      out += strict.decode(bytes.subarray(at, at + length));
      at += length;
    } catch {
      out += `\\x${first.toString(16).padStart(2, "0")}`;
      at += 1;
    }
  }
  return out;
}
