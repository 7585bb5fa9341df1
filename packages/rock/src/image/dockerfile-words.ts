import { AleError } from "@ale/core";

/** Words of a Dockerfile: quotes, escapes and variables, as its reference has them. */

/** The value of a variable; undefined where it is not set. */
export type Lookup = (name: string) => string | undefined;

export type Escape = "\\" | "`";

/** Splits at blanks outside quotes. The quotes stay: `expandWord` takes them away. */
export function splitWords(text: string, escapeMark: Escape): string[] {
  const words: string[] = [];
  let word = "";
  let quote = "";
  let began = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (quote === "" && /\s/.test(char)) {
      if (began) words.push(word);
      word = "";
      began = false;
      continue;
    }
    began = true;
    if (char === escapeMark && quote !== "'" && at + 1 < text.length) {
      word += char + text[++at];
      continue;
    }
    if (quote === "" && (char === '"' || char === "'")) quote = char;
    else if (char === quote) quote = "";
    word += char;
  }
  if (began) words.push(word);
  return words;
}

/** Takes quotes and escapes away and puts variables in. Throws an AleError for a substitution that is none. */
export function expandWord(text: string, lookup: Lookup, escapeMark: Escape): string {
  return new Expansion(text, lookup, escapeMark).run();
}

class Expansion {
  readonly #text: string;
  readonly #lookup: Lookup;
  readonly #escape: Escape;
  #at = 0;

  constructor(text: string, lookup: Lookup, escapeMark: Escape) {
    this.#text = text;
    this.#lookup = lookup;
    this.#escape = escapeMark;
  }

  run(): string {
    let result = "";
    while (this.#at < this.#text.length) result += this.#part();
    return result;
  }

  #part(): string {
    const char = this.#text[this.#at]!;
    if (char === "'") return this.#singleQuoted();
    if (char === '"') return this.#doubleQuoted();
    if (char === "$") return this.#variable();
    this.#at++;
    if (char !== this.#escape) return char;
    return this.#text[this.#at++] ?? char;
  }

  #singleQuoted(): string {
    const end = this.#text.indexOf("'", this.#at + 1);
    if (end < 0) throw invalid("a ' is never closed");
    const inner = this.#text.slice(this.#at + 1, end);
    this.#at = end + 1;
    return inner;
  }

  #doubleQuoted(): string {
    let result = "";
    this.#at++;
    for (;;) {
      const char = this.#text[this.#at];
      if (char === undefined) throw invalid('a " is never closed');
      if (char === '"') {
        this.#at++;
        return result;
      }
      const next = this.#text[this.#at + 1];
      if (char === "$") result += this.#variable();
      else if (char === this.#escape && next !== undefined && ['"', "$", this.#escape].includes(next)) {
        result += next;
        this.#at += 2;
      } else {
        result += char;
        this.#at++;
      }
    }
  }

  #variable(): string {
    const rest = this.#text.slice(this.#at);
    const plain = /^\$([A-Za-z_][A-Za-z0-9_]*|[0-9])/.exec(rest);
    if (plain !== null) {
      this.#at += plain[0].length;
      return this.#lookup(plain[1]!) ?? "";
    }
    if (!rest.startsWith("${")) {
      this.#at++;
      return "$";
    }
    const head = /^\$\{([A-Za-z_][A-Za-z0-9_]*)/.exec(rest);
    const end = closingBrace(rest, this.#escape);
    if (head === null || end === undefined) throw invalid(`${rest.slice(0, 40)} is no variable`);
    const [whole, name] = head;
    this.#at += end + 1;
    return this.#substitute(name!, rest.slice(whole!.length, end));
  }

  #substitute(name: string, modifier: string): string {
    const value = this.#lookup(name);
    if (modifier === "") return value ?? "";
    const match = /^(:?)([-+?])(.*)$/s.exec(modifier);
    if (match === null)
      throw invalid(`\${${name}${modifier}} is not supported: only :- - :+ + :? and ? may follow a name`);
    const [, colon, operator, raw] = match;
    const isSet = value !== undefined && (colon === "" || value !== "");
    const word = (): string => expandWord(raw!, this.#lookup, this.#escape);
    if (operator === "+") return isSet ? word() : "";
    if (isSet) return value;
    if (operator === "-") return word();
    throw invalid(`${name} is not set: ${word() || "it has to be"}`);
  }
}

/** Where the brace of a text that begins with `${` is closed. */
function closingBrace(text: string, escapeMark: Escape): number | undefined {
  let depth = 0;
  for (let at = 1; at < text.length; at++) {
    if (text[at] === escapeMark) at++;
    else if (text[at] === "{") depth++;
    else if (text[at] === "}" && --depth === 0) return at;
  }
  return undefined;
}

export const invalid = (why: string): AleError => new AleError("dockerfile-invalid", why);
