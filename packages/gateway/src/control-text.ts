/**
 * Keeps control tokens and content apart in one rendered prompt. A chat template joins its own text (`<|end|>`) with text
 * from users, tools and models; if that text says `<|end|>` too, a tokenizer would take both for the token. So content is
 * protected before it enters the template: the first character of every control token in it is written as an escape, and
 * read back after the prompt has been split at the control tokens that remain, which are the template's own.
 *
 * Escapes begin with U+FDD0, a noncharacter that no text should hold; in one that does it is escaped itself, so every
 * string survives exactly.
 */
const MARK = "\uFDD0";
const ESCAPE = /\uFDD0([0-9a-f]{4})/g;
const escapeOf = (text: string): string => MARK + text.charCodeAt(0).toString(16).padStart(4, "0");

export interface Segment {
  readonly text: string;
  /** The text is a control token of the template, not content. */
  readonly control: boolean;
}

export interface ControlText {
  /** Content that can no longer be read as a control token, whatever it says and whatever follows it. */
  protect(content: string): string;
  /** Inverse of `protect`, on any rendered text. */
  reveal(rendered: string): string;
  /** Cuts a rendered prompt at its control tokens, longest first, and reads back the escapes of the rest. */
  split(rendered: string): Segment[];
}

const quote = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/** Alternatives ordered so that the longest wins, as in Hugging Face's trie. */
const anyOf = (texts: Iterable<string>): string =>
  [...new Set(texts)]
    .sort((a, b) => b.length - a.length || (a < b ? -1 : 1))
    .map(quote)
    .join("|");

const NEVER = /(?!)/g;

export function controlText(tokens: readonly string[]): ControlText {
  const whole = tokens.length === 0 ? NEVER : new RegExp(anyOf(tokens), "g");
  // A token may also be begun by one content and completed by the text after it, so beginnings at the very end are broken too.
  const beginnings = tokens.flatMap((token) =>
    Array.from({ length: token.length - 1 }, (_, i) => token.slice(0, i + 1)),
  );
  const dangerous =
    tokens.length === 0
      ? NEVER
      : new RegExp(`(?=${anyOf(tokens)}${beginnings.length > 0 ? `|(?:${anyOf(beginnings)})$` : ""})`, "g");

  // Most content holds neither the mark nor the first character of any token.
  const suspicious = new RegExp(`[${MARK}${[...new Set(tokens.map((token) => quote(token[0]!)))].join("")}]`);

  const reveal = (rendered: string): string =>
    rendered.includes(MARK)
      ? rendered.replaceAll(ESCAPE, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
      : rendered;

  return {
    reveal,
    protect(content) {
      if (!suspicious.test(content)) return content;
      const escaped = content.includes(MARK) ? content.replaceAll(MARK, escapeOf(MARK)) : content;
      let out = "";
      let from = 0;
      for (const match of escaped.matchAll(dangerous)) {
        out += escaped.slice(from, match.index) + escapeOf(escaped[match.index]!);
        from = match.index + 1;
      }
      return from === 0 ? escaped : out + escaped.slice(from);
    },
    split(rendered) {
      const segments: Segment[] = [];
      let from = 0;
      for (const match of rendered.matchAll(whole)) {
        if (match.index > from)
          segments.push({ text: reveal(rendered.slice(from, match.index)), control: false });
        segments.push({ text: match[0], control: true });
        from = match.index + match[0].length;
      }
      if (from < rendered.length) segments.push({ text: reveal(rendered.slice(from)), control: false });
      return segments;
    },
  };
}

/** Stands for what was sampled in turn `turn`: in place of the reasoning, if the turn had some, and of the answer. */
export const placeholderFor = (turn: number, part: "thought" | "answer"): string =>
  `${MARK}${part === "thought" ? "T" : "A"}${turn}.`;
