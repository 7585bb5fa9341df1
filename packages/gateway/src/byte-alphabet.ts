/**
 * GPT-2's byte-to-character table, in which byte-level vocabularies are written: printable bytes stand for themselves, the
 * others for U+0100 onwards, in order.
 */
export const BYTE_ALPHABET: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

const BYTE_OF = new Map(BYTE_ALPHABET.map((character, byte) => [character, byte]));

const encoder = new TextEncoder();

export const toByteAlphabet = (text: string): string =>
  Array.from(encoder.encode(text), (byte) => BYTE_ALPHABET[byte]).join("");

/** The bytes of a vocabulary entry. Characters outside the table (added tokens) stand for their UTF-8. */
export function fromByteAlphabet(token: string): Uint8Array {
  const bytes = Array.from(token, (character) => BYTE_OF.get(character));
  return bytes.includes(undefined) ? encoder.encode(token) : Uint8Array.from(bytes as number[]);
}
