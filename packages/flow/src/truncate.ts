import type { ContextProfile } from "@ale/core";
import { texts } from "./texts.ts";

/**
 * Cuts the middle out of a long observation, once, when it is written to the log; nothing is ever cut later, because that would
 * rewrite the context. The first `headChars` and the last `tailChars` characters stay, with a mark that says how many went.
 * Never longer than the original, and never half a surrogate pair.
 */
export function truncate(text: string, { headChars, tailChars }: ContextProfile["truncation"]): string {
  if (text.length <= headChars + tailChars) return text;
  const headEnd = isPairMiddle(text, headChars) ? headChars - 1 : headChars;
  const tailFrom = text.length - tailChars;
  const tailStart = isPairMiddle(text, tailFrom) ? tailFrom + 1 : tailFrom;
  const cut = text.slice(0, headEnd) + texts.cut(tailStart - headEnd) + text.slice(tailStart);
  return cut.length < text.length ? cut : text;
}

/** An observation with what guard has to say below it. */
export const withNote = (content: string, note: string): string =>
  content === "" ? note : `${content}\n${note}`;

/** Whether position `at` lies between the two halves of a character outside the basic plane. */
function isPairMiddle(text: string, at: number): boolean {
  const before = text.charCodeAt(at - 1);
  const after = text.charCodeAt(at);
  return before >= 0xd800 && before <= 0xdbff && after >= 0xdc00 && after <= 0xdfff;
}
