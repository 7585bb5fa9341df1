import { compilePattern, type TextTest } from "./pattern.ts";

/** Sigma's plain text values: `*` and `?` are wildcards, `\*` is a star; case counts only with `|cased`. */

export type TextPlace = "contains" | "startswith" | "endswith" | "equals";

/** A test of a text, or why there can be none. */
export function textTest(wanted: string, place: TextPlace, cased: boolean): TextTest | string {
  if (hasWildcard(wanted)) {
    const made = compilePattern(wildcardSource(wanted, place), { ignoreCase: !cased, dotAll: true });
    return made.ok ? made.test : made.message;
  }
  const fold = cased ? (text: string) => text : lowered;
  const needle = fold(wanted.replace(/\\([*?\\])/g, "$1"));
  switch (place) {
    case "contains":
      return (text) => fold(text).includes(needle);
    case "startswith":
      return (text) => fold(text).startsWith(needle);
    case "endswith":
      return (text) => fold(text).endsWith(needle);
    case "equals":
      return (text) => fold(text) === needle;
    default:
      return place satisfies never;
  }
}

/** The text that was lowered last: a list of words meets the same one again and again. */
let last = { text: "", lowered: "" };

function lowered(text: string): string {
  if (text !== last.text) last = { text, lowered: text.toLowerCase() };
  return last.lowered;
}

const hasWildcard = (text: string): boolean => /[*?]/.test(text.replace(/\\[*?\\]/g, ""));

function wildcardSource(text: string, place: TextPlace): string {
  const body = text.replace(/\\[*?\\]|[*?]|[^*?\\]+|\\/g, (part) => {
    if (part === "*") return ".*";
    if (part === "?") return ".";
    const literal = /^\\[*?\\]$/.test(part) ? part.slice(1) : part;
    return literal.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
  });
  return `${place === "equals" || place === "startswith" ? "^" : ""}${body}${place === "equals" || place === "endswith" ? "$" : ""}`;
}
