/**
 * Text from a log was written by an agent, which may have written it for the reader's terminal: escape sequences, carriage returns that
 * hide what stands before, characters that turn the direction of writing or are not seen at all. All of them are made visible.
 */
const CONTROL =
  /[\p{Cc}\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

export const printable = (text: string): string =>
  text.replace(CONTROL, (found) => {
    const code = found.codePointAt(0)!;
    if (found === "\n" || found === "\t") return found;
    // U+2400…U+2420 are pictures of the control characters, U+2421 that of DEL.
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `\\u{${code.toString(16)}}`;
  });

/** The same for every text in a value. */
export function deepPrintable<T>(value: T): T {
  if (typeof value === "string") return printable(value) as T;
  if (Array.isArray(value)) return value.map(deepPrintable) as T;
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => [printable(name), deepPrintable(member)]),
    ) as T;
  return value;
}
