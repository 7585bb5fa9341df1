/**
 * Splits bash text into words and operators, respecting quotes, comments, substitutions and here-documents. It knows enough of
 * the grammar to tell a program from the text it is given (`echo "ssh -R"` runs echo), and never throws: what cannot be
 * understood (an open quote) is read as literal text to its end. It runs nothing and expands nothing.
 */
export type WordPart =
  | { readonly type: "literal"; readonly text: string }
  /** Unquoted `*`, `?`, `[…]` or `{a,b}`, as written. */
  | { readonly type: "glob"; readonly text: string }
  | { readonly type: "variable"; readonly name: string }
  /** `$(…)`, backticks, `<(…)`: the text inside is itself a script. */
  | { readonly type: "script"; readonly text: string }
  /** Anything else whose value cannot be known. */
  | { readonly type: "unknown" };

export type Word = readonly WordPart[];

export type Token =
  | { readonly type: "word"; readonly parts: Word }
  | { readonly type: "operator"; readonly text: ";" | "&" | "|" | "&&" | "||" | "(" | ")" }
  | {
      readonly type: "redirect";
      readonly direction: "read" | "write" | "text" | "descriptor";
      readonly target: Word;
      /** Body of a here-document or here-string. */
      readonly body?: Word;
    };

const REDIRECT = /^(\d*|&)(<<<|<<-?|<>|>>|>\||>&|<&|<|>)/;
const METACHARACTERS = " \t\n;&|()<>";
/** Quotes in substitutions in quotes … deeper than this are read as plain text: nobody writes them, and the stack is finite. */
const MAX_NESTING = 40;

class Lexer {
  readonly #text: string;
  #at = 0;
  #nesting = 0;
  readonly #tokens: Token[] = [];
  /** Here-documents announced on the current line; their bodies start after the next newline. */
  #awaiting: { index: number; end: string; indented: boolean; literal: boolean }[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  run(): Token[] {
    while (this.#at < this.#text.length) this.#step();
    return this.#tokens;
  }

  #step(): void {
    const char = this.#text[this.#at]!;
    if (char === "\n") {
      this.#at++;
      this.#tokens.push({ type: "operator", text: ";" });
      for (const document of this.#awaiting.splice(0)) this.#hereDocument(document);
      return;
    }
    if (char === " " || char === "\t") {
      this.#at++;
      return;
    }
    if (this.#text.startsWith("\\\n", this.#at)) {
      this.#at += 2;
      return;
    }
    if (char === "#") {
      const end = this.#text.indexOf("\n", this.#at);
      this.#at = end < 0 ? this.#text.length : end;
      return;
    }
    if (this.#substitutesProcess()) {
      this.#tokens.push({ type: "word", parts: this.#word() });
      return;
    }
    const redirect = REDIRECT.exec(this.#text.slice(this.#at, this.#at + 12));
    if (redirect) {
      this.#redirect(redirect);
      return;
    }
    if (";&|()".includes(char)) this.#operator();
    else this.#tokens.push({ type: "word", parts: this.#word() });
  }

  #substitutesProcess(): boolean {
    return this.#text.startsWith("<(", this.#at) || this.#text.startsWith(">(", this.#at);
  }

  #operator(): void {
    const two = this.#text.slice(this.#at, this.#at + 2);
    if (two === "&&" || two === "||") {
      this.#at += 2;
      this.#tokens.push({ type: "operator", text: two });
      return;
    }
    const one = this.#text[this.#at]! as ";" | "&" | "|" | "(" | ")";
    this.#at += two === "|&" ? 2 : 1;
    this.#tokens.push({ type: "operator", text: one });
  }

  #redirect(match: RegExpExecArray): void {
    const symbol = match[2]!;
    this.#at += match[0].length;
    while (this.#text[this.#at] === " " || this.#text[this.#at] === "\t") this.#at++;
    const start = this.#at;
    const target = this.#word();
    if (symbol.startsWith("<<") && symbol !== "<<<") {
      const written = this.#text.slice(start, this.#at);
      const end = written.replace(/['"\\]/g, "");
      const index = this.#tokens.push({ type: "redirect", direction: "text", target, body: [] }) - 1;
      this.#awaiting.push({ index, end, indented: symbol === "<<-", literal: end !== written });
    } else if (symbol === "<<<")
      this.#tokens.push({ type: "redirect", direction: "text", target, body: target });
    else {
      const toDescriptor = symbol.endsWith("&") && /^[\d-]+$/.test(this.#text.slice(start, this.#at));
      const direction = toDescriptor ? "descriptor" : symbol === "<" || symbol === "<&" ? "read" : "write";
      this.#tokens.push({ type: "redirect", direction, target });
    }
  }

  #hereDocument(document: { index: number; end: string; indented: boolean; literal: boolean }): void {
    const lines: string[] = [];
    while (this.#at < this.#text.length) {
      const newline = this.#text.indexOf("\n", this.#at);
      const stop = newline < 0 ? this.#text.length : newline;
      const line = this.#text.slice(this.#at, stop);
      this.#at = stop + 1;
      if ((document.indented ? line.replace(/^\t+/, "") : line) === document.end) break;
      lines.push(line);
    }
    const token = this.#tokens[document.index]!;
    if (token.type !== "redirect") return;
    const text = lines.join("\n");
    // Without quotes around the end mark, substitutions in the body run.
    const body: Word = document.literal ? [{ type: "literal", text }] : quotedParts(text);
    this.#tokens[document.index] = { ...token, body };
  }

  #word(): Word {
    const parts: WordPart[] = [];
    if (this.#substitutesProcess()) {
      this.#at++;
      parts.push({ type: "script", text: this.#bracketed() });
    }
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at]!;
      if (METACHARACTERS.includes(char)) break;
      this.#at++;
      if (char === "'") parts.push({ type: "literal", text: this.#until("'") });
      else if (char === '"') parts.push({ type: "literal", text: "" }, ...quotedParts(this.#doubleQuoted()));
      else if (char === "\\") {
        const next = this.#text[this.#at++];
        if (next !== "\n" && next !== undefined) parts.push({ type: "literal", text: next });
      } else if (char === "$" || char === "`") parts.push(this.#expansion(char));
      else if ("*?[{".includes(char)) parts.push(this.#glob(char));
      else if (char === "~" && parts.length === 0) parts.push({ type: "variable", name: "HOME" });
      else parts.push({ type: "literal", text: char });
    }
    return merged(parts);
  }

  #glob(char: string): WordPart {
    const rest = this.#text.slice(this.#at);
    const closed =
      char === "["
        ? /^[^\]\s]{1,64}\]/.exec(rest)
        : char === "{"
          ? /^[^\s{},]{0,128}(?:,[^\s{},]{0,128}){1,16}\}/.exec(rest)
          : null;
    if (closed) {
      this.#at += closed[0].length;
      return { type: "glob", text: char + closed[0] };
    }
    return { type: char === "*" || char === "?" ? "glob" : "literal", text: char };
  }

  /** After a `$` or a backtick. */
  #expansion(char: "$" | "`"): WordPart {
    if (char === "`") return { type: "script", text: this.#until("`") };
    const rest = this.#text.slice(this.#at);
    if (rest.startsWith("((")) {
      this.#bracketed();
      return { type: "unknown" };
    }
    if (rest.startsWith("(")) return { type: "script", text: this.#bracketed() };
    if (rest.startsWith("'")) {
      this.#at++;
      return { type: "literal", text: ansiUnescaped(this.#ansiQuoted()) };
    }
    const name = /^(?:\{(\w+)\}|([A-Za-z_]\w*))/.exec(rest);
    if (name) {
      this.#at += name[0].length;
      return { type: "variable", name: (name[1] ?? name[2])! };
    }
    const other = /^(?:\{[^}]*\}|[\d@*#?$!-])/.exec(rest);
    if (!other) return { type: "literal", text: "$" };
    this.#at += other[0].length;
    return { type: "unknown" };
  }

  /** Text inside a pair of round brackets that opens here, respecting quotes. */
  #bracketed(): string {
    const start = this.#at + 1;
    let depth = 0;
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at++]!;
      if (char === "\\") this.#at++;
      else if (char === "'") this.#until("'");
      else if (char === '"') this.#doubleQuoted();
      else if (char === "(") depth++;
      else if (char === ")" && --depth === 0) return this.#text.slice(start, this.#at - 1);
    }
    return this.#text.slice(start);
  }

  #until(quote: string): string {
    const start = this.#at;
    const end = this.#text.indexOf(quote, start);
    this.#at = end < 0 ? this.#text.length : end + 1;
    return this.#text.slice(start, end < 0 ? undefined : end);
  }

  #ansiQuoted(): string {
    const start = this.#at;
    while (this.#at < this.#text.length && this.#text[this.#at] !== "'")
      this.#at += this.#text[this.#at] === "\\" ? 2 : 1;
    return this.#text.slice(start, this.#at++);
  }

  #doubleQuoted(): string {
    const start = this.#at;
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at]!;
      if (char === '"') return this.#text.slice(start, this.#at++);
      if (char === "\\") this.#at += 2;
      else if (this.#text.startsWith("$(", this.#at) && this.#nesting < MAX_NESTING) {
        this.#at++;
        this.#nesting++;
        this.#bracketed();
        this.#nesting--;
      } else this.#at++;
    }
    return this.#text.slice(start);
  }

  /** Text as it stands inside double quotes: only `$`, backticks and some backslashes mean something. */
  quoted(): Word {
    const parts: WordPart[] = [];
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at++]!;
      if (char === "\\" && '$`"\\\n'.includes(this.#text[this.#at] ?? "x")) {
        const next = this.#text[this.#at++]!;
        if (next !== "\n") parts.push({ type: "literal", text: next });
      } else if (char === "`" || (char === "$" && this.#text[this.#at] !== "'"))
        parts.push(this.#expansion(char));
      else parts.push({ type: "literal", text: char });
    }
    return merged(parts);
  }
}

export const tokensOf = (script: string): Token[] => new Lexer(script).run();

const quotedParts = (text: string): Word => new Lexer(text).quoted();

function merged(parts: readonly WordPart[]): Word {
  const out: WordPart[] = [];
  for (const part of parts) {
    const last = out.at(-1);
    if (part.type === "literal" && last?.type === "literal")
      out[out.length - 1] = { type: "literal", text: last.text + part.text };
    else out.push(part);
  }
  return out;
}

const ANSI: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", a: "\x07", e: "\x1b", "0": "\0" };

function ansiUnescaped(text: string): string {
  return text.replace(/\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))/gs, (_, hex, octal, other) => {
    if (hex) return String.fromCharCode(Number.parseInt(hex, 16));
    if (octal) return String.fromCharCode(Number.parseInt(octal, 8));
    return ANSI[other] ?? other;
  });
}
