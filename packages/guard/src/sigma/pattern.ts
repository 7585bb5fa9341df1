import { RE2JS } from "re2js";

/**
 * Regular expressions of rules. Agents choose the text that these meet, and people who write rules cannot be expected to know which
 * expressions explode, so all of them run in an engine whose time is linear in the text (RE2's). It has no look-around and no
 * back-references: these are refused, with what to write instead.
 */
export type TextTest = (text: string) => boolean;
export type PatternResult =
  | { readonly ok: true; readonly test: TextTest }
  | { readonly ok: false; readonly message: string };

export interface PatternOptions {
  readonly ignoreCase?: boolean;
  /** Whether `.` is also a line break. */
  readonly dotAll?: boolean;
}

/** Of a longer text half of this is looked at from its beginning and half up to its end. No command of an agent's turn is longer. */
export const MAX_TEXT_CHARS = 2 ** 17;

export function compilePattern(
  source: string,
  { ignoreCase = false, dotAll = false }: PatternOptions = {},
): PatternResult {
  try {
    const pattern = RE2JS.compile(
      source,
      (ignoreCase ? RE2JS.CASE_INSENSITIVE : 0) | (dotAll ? RE2JS.DOTALL : 0),
    );
    return { ok: true, test: (text) => pattern.test(bounded(text)) };
  } catch (error) {
    return { ok: false, message: faultOf(source, error) };
  }
}

/** A newline for what is left out, so that no word is made of both ends. */
function bounded(text: string): string {
  if (text.length <= MAX_TEXT_CHARS) return text;
  return `${text.slice(0, MAX_TEXT_CHARS / 2)}\n${text.slice(-MAX_TEXT_CHARS / 2)}`;
}

/** What people bring along from other engines, and how it is said here. */
const FOREIGN: readonly (readonly [RegExp, string])[] = [
  [
    /\(\?<?[=!]/,
    "looks ahead or behind, which cannot be done in linear time: write it as another selection, and `not` in the condition",
  ],
  [
    /\\(?:[1-9]|k<)/,
    "refers back to a group, which cannot be done in linear time: write the alternatives out",
  ],
  [/\(\?>|[*+?}]\+/, "is possessive, which a linear engine has no need of: leave the `+` or `?>` out"],
  [/\\u[0-9a-fA-F{]/, "write characters by their code as \\x{00e9}"],
  [/\\[hZ]/, "write `[ \\t]` for \\h, and `$` or `\\z` for \\Z"],
  [/\\[pP]\{\w+=/, "write a script by its name alone, e.g. \\p{Greek}"],
];

function faultOf(source: string, error: unknown): string {
  const said = error instanceof Error ? error.message.replace(/^error parsing regexp: /, "") : String(error);
  const foreign = FOREIGN.find(([pattern]) => pattern.test(source))?.[1];
  return foreign === undefined ? said : `${said}; ${foreign}`;
}
