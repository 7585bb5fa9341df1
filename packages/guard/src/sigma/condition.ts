/**
 * The condition language of Sigma: `selection and not 1 of filter_*`. `not` binds tighter than `and`, `and` tighter than `or`. Source:
 * Sigma rules specification 2.0, "Condition".
 */

export type Condition =
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "not"; readonly of: Condition }
  | { readonly type: "and" | "or"; readonly of: readonly Condition[] }
  /** `them` is the pattern `*`. Names that begin with an underscore are left out of `them`. */
  | { readonly type: "some" | "all"; readonly pattern: string };

export type ConditionResult =
  | { readonly ok: true; readonly condition: Condition }
  /** `at`: characters from the beginning of the text. */
  | { readonly ok: false; readonly at: number; readonly message: string };

interface Token {
  readonly text: string;
  readonly at: number;
}

class Unparsable extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

/** Longest condition that is read, so that nesting cannot exhaust the stack. */
const MAX_TOKENS = 500;

export function parseCondition(text: string): ConditionResult {
  try {
    const reader = new Reader(tokensOf(text), text.length);
    const condition = anyOf(reader);
    const rest = reader.peek();
    if (rest !== undefined) throw new Unparsable(rest.at, `unexpected "${rest.text}"`);
    return { ok: true, condition };
  } catch (error) {
    if (error instanceof Unparsable) return { ok: false, at: error.at, message: error.message };
    throw error;
  }
}

/** Names and patterns that a condition mentions. */
export function mentionsOf(
  condition: Condition,
): readonly Extract<Condition, { type: "name" | "some" | "all" }>[] {
  switch (condition.type) {
    case "name":
    case "some":
    case "all":
      return [condition];
    case "not":
      return mentionsOf(condition.of);
    case "and":
    case "or":
      return condition.of.flatMap(mentionsOf);
    default:
      return condition satisfies never;
  }
}

/** Whether a selection's name is meant by a pattern of `1 of …` or `all of …`. */
export function isMeant(pattern: string, name: string): boolean {
  if (pattern === "*") return !name.startsWith("_");
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return pattern === name;
  if (!name.startsWith(first) || name.length < first.length + last.length || !name.endsWith(last))
    return false;
  // Each part at the first place where it stands leaves the most for those after it.
  let at = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= name.length - last.length;
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  for (const match of text.matchAll(/\s+|[()]|[\w*.-]+|./gs)) {
    const [token] = match;
    if (/^\s/.test(token)) continue;
    if (!/^[()\w*.-]/.test(token)) throw new Unparsable(match.index, `unexpected "${token}"`);
    tokens.push({ text: token, at: match.index });
  }
  if (tokens.length > MAX_TOKENS) throw new Unparsable(0, `longer than ${MAX_TOKENS} words`);
  return tokens;
}

class Reader {
  readonly #tokens: readonly Token[];
  readonly #end: number;
  #next = 0;

  constructor(tokens: readonly Token[], end: number) {
    this.#tokens = tokens;
    this.#end = end;
  }

  peek(): Token | undefined {
    return this.#tokens[this.#next];
  }

  take(expected: string): Token {
    const token = this.#tokens[this.#next++];
    if (token === undefined) throw new Unparsable(this.#end, `it ends where ${expected} should follow`);
    return token;
  }

  accept(word: string): boolean {
    if (this.peek()?.text.toLowerCase() !== word) return false;
    this.#next++;
    return true;
  }
}

function anyOf(reader: Reader): Condition {
  const of = [allOf(reader)];
  while (reader.accept("or")) of.push(allOf(reader));
  return of.length === 1 ? of[0]! : { type: "or", of };
}

function allOf(reader: Reader): Condition {
  const of = [one(reader)];
  while (reader.accept("and")) of.push(one(reader));
  return of.length === 1 ? of[0]! : { type: "and", of };
}

function one(reader: Reader): Condition {
  if (reader.accept("not")) return { type: "not", of: one(reader) };
  if (reader.accept("(")) {
    const inner = anyOf(reader);
    const close = reader.take('")"');
    if (close.text !== ")") throw new Unparsable(close.at, `")" is missing before "${close.text}"`);
    return inner;
  }
  const word = reader.take("a selection");
  if (word.text === ")") throw new Unparsable(word.at, `a selection is missing before ")"`);
  const isCount = word.text === "1" || /^(?:any|all)$/i.test(word.text);
  if (isCount && reader.accept("of")) {
    const target = reader.take("a pattern or `them`");
    const pattern = target.text.toLowerCase() === "them" ? "*" : target.text;
    return { type: word.text.toLowerCase() === "all" ? "all" : "some", pattern };
  }
  if (/^(?:and|or|of)$/i.test(word.text))
    throw new Unparsable(word.at, `a selection is missing before "${word.text}"`);
  return { type: "name", name: word.text };
}
