import { fromByteAlphabet } from "./byte-alphabet.ts";

/**
 * From ids back to text, for byte-level vocabularies. A character's bytes may be spread over several tokens, so runs of content
 * are joined before they are read as UTF-8; bytes that are none become U+FFFD, as in Hugging Face's decoder.
 */
export type Decode = (ids: readonly number[]) => string;

/** `content` maps a vocabulary entry in the byte alphabet to its id; `added` tokens come out as their own text. */
export function byteDecoder(
  content: Iterable<readonly [string, number]>,
  added: Iterable<readonly [string, number]>,
): Decode {
  const bytes: Uint8Array[] = [];
  const texts: string[] = [];
  for (const [token, id] of content) bytes[id] = fromByteAlphabet(token);
  for (const [text, id] of added) {
    texts[id] = text;
    delete bytes[id];
  }
  // A byte order mark is a character like any other here.
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  return (ids) => {
    let out = "";
    let run: number[] = [];
    for (const id of ids) {
      const piece = bytes[id];
      if (piece !== undefined) for (const byte of piece) run.push(byte);
      else {
        const text = texts[id];
        if (text === undefined)
          throw new RangeError(
            `token ${id} is not one of the ${Math.max(bytes.length, texts.length)} of this vocabulary`,
          );
        if (run.length > 0) out += utf8.decode(Uint8Array.from(run));
        run = [];
        out += text;
      }
    }
    return run.length > 0 ? out + utf8.decode(Uint8Array.from(run)) : out;
  };
}
