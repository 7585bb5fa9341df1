import { AleError, suggest } from "@ale/core";
import { type Escape, splitWords } from "./dockerfile-words.ts";

/** Reads a Dockerfile into instructions. What they do is not known here. */

export const KEYWORDS = [
  "ADD",
  "ARG",
  "CMD",
  "COPY",
  "ENTRYPOINT",
  "ENV",
  "EXPOSE",
  "FROM",
  "HEALTHCHECK",
  "LABEL",
  "MAINTAINER",
  "ONBUILD",
  "RUN",
  "SHELL",
  "STOPSIGNAL",
  "USER",
  "VOLUME",
  "WORKDIR",
] as const;
export type Keyword = (typeof KEYWORDS)[number];

export interface Heredoc {
  readonly name: string;
  readonly content: string;
  /** Whether variables are put in: the name was not quoted. */
  readonly expand: boolean;
}

export interface Instruction {
  readonly keyword: Keyword;
  /** Counted from 1, where the instruction begins. */
  readonly line: number;
  /** `--name=value` before the arguments; "" where there is no value. */
  readonly flags: readonly { readonly name: string; readonly value: string }[];
  /** What follows the flags, continuations joined, comments gone, here-documents cut off. */
  readonly text: string;
  /** The arguments of the JSON form, where it is one. */
  readonly json: readonly string[] | undefined;
  readonly heredocs: readonly Heredoc[];
}

export interface Dockerfile {
  readonly escapeMark: Escape;
  readonly instructions: readonly Instruction[];
}

/** An error that names the place. `next` overrides what the error itself advises. */
export function dockerfileError(name: string, line: number, why: string, next?: string): AleError {
  return new AleError("dockerfile-invalid", `${name}:${line}: ${why}`, next === undefined ? {} : { next });
}

const LARGEST = 4 * 2 ** 20;

/** Throws an AleError `dockerfile-invalid` with the line. */
export function parseDockerfile(source: string, name = "Dockerfile"): Dockerfile {
  if (source.length > LARGEST) throw dockerfileError(name, 1, "it is larger than 4 MiB");
  const lines = source.replace(/^\uFEFF/, "").split(/\r?\n/);
  const { escapeMark, first } = directives(lines, name);
  const reader = new LineReader(lines, first, escapeMark, name);
  const instructions: Instruction[] = [];
  for (let next = reader.next(); next !== undefined; next = reader.next()) instructions.push(next);
  if (instructions.length === 0) throw dockerfileError(name, 1, "it has no instructions", "begin with FROM");
  return { escapeMark, instructions };
}

/** `# name=value` in the first lines. `syntax` and `check` mean another builder. */
function directives(lines: readonly string[], name: string): { escapeMark: Escape; first: number } {
  let escapeMark: Escape = "\\";
  let at = 0;
  for (; at < lines.length; at++) {
    const match = /^#\s*([a-zA-Z]+)\s*=\s*(.*?)\s*$/.exec(lines[at]!);
    if (match === null) break;
    const [, key, value] = match;
    if (key!.toLowerCase() !== "escape") continue;
    if (value !== "\\" && value !== "`") throw dockerfileError(name, at + 1, "escape is either \\ or `");
    escapeMark = value;
  }
  return { escapeMark, first: at };
}

class LineReader {
  readonly #lines: readonly string[];
  readonly #escape: Escape;
  readonly #name: string;
  #at: number;

  constructor(lines: readonly string[], first: number, escapeMark: Escape, name: string) {
    this.#lines = lines;
    this.#at = first;
    this.#escape = escapeMark;
    this.#name = name;
  }

  next(): Instruction | undefined {
    while (this.#at < this.#lines.length && isBlankOrComment(this.#lines[this.#at]!)) this.#at++;
    if (this.#at >= this.#lines.length) return undefined;
    const line = this.#at + 1;
    const text = this.#joined();
    const match = /^\s*(\S+)\s*(.*)$/s.exec(text)!;
    const keyword = this.#keyword(match[1]!, line);
    const { flags, rest } = takeFlags(match[2]!, keyword);
    const heredocs = ["RUN", "COPY", "ADD"].includes(keyword) ? this.#heredocs(rest, line) : [];
    return { keyword, line, flags, text: rest.trim(), json: jsonOf(rest), heredocs };
  }

  /** One line, with those that continue it. Comments and empty lines in between do not end it. */
  #joined(): string {
    const continues = this.#escape === "\\" ? /\\[ \t]*$/ : /`[ \t]*$/;
    let text = "";
    for (;;) {
      const line = this.#lines[this.#at++]!;
      if (!continues.test(line)) return text + line;
      text += line.replace(continues, "");
      while (this.#at < this.#lines.length && isBlankOrComment(this.#lines[this.#at]!)) this.#at++;
      if (this.#at >= this.#lines.length) return text;
    }
  }

  #keyword(word: string, line: number): Keyword {
    const upper = word.toUpperCase();
    const known = KEYWORDS.find((keyword) => keyword === upper);
    if (known !== undefined) return known;
    const meant = suggest(upper, KEYWORDS);
    throw dockerfileError(
      this.#name,
      line,
      `unknown instruction ${word.slice(0, 60)}`,
      meant === undefined ? `the instructions are ${KEYWORDS.join(", ")}` : `did you mean ${meant}?`,
    );
  }

  #heredocs(text: string, line: number): Heredoc[] {
    return heredocNames(text, this.#escape).map(({ name, expand, chomp }) => {
      const content: string[] = [];
      for (;;) {
        const next = this.#lines[this.#at++];
        if (next === undefined)
          throw dockerfileError(
            this.#name,
            line,
            `the here-document ${name} is never closed`,
            `end it with a line ${name}`,
          );
        const shown = chomp ? next.replace(/^\t+/, "") : next;
        if (shown === name) return { name, expand, content: content.map((one) => `${one}\n`).join("") };
        content.push(shown);
      }
    });
  }
}

const isBlankOrComment = (line: string): boolean => /^\s*(#|$)/.test(line);

const HEREDOC = /^(?:\d*)<<(-?)(?:"([A-Za-z_][\w.]*)"|'([A-Za-z_][\w.]*)'|([A-Za-z_][\w.]*))$/;

/** `<<NAME`, `<<-NAME`, `<<"NAME"` as words of their own, or in front of a redirection that follows at once. */
function heredocNames(text: string, escapeMark: Escape): { name: string; expand: boolean; chomp: boolean }[] {
  return splitWords(text, escapeMark).flatMap((word) => {
    const match = HEREDOC.exec(word.replace(/[;|&>].*$/, ""));
    if (match === null) return [];
    const [, dash, double, single, bare] = match;
    return [{ name: (double ?? single ?? bare)!, expand: bare !== undefined, chomp: dash === "-" }];
  });
}

function takeFlags(text: string, keyword: Keyword): { flags: Instruction["flags"]; rest: string } {
  const flags: { name: string; value: string }[] = [];
  let rest = text.trimStart();
  if (!["ADD", "COPY", "FROM", "RUN", "HEALTHCHECK"].includes(keyword)) return { flags, rest };
  for (;;) {
    const match = /^--([a-z][a-z-]*)(?:=((?:"[^"]*"|\S)*))?(?:\s+|$)/.exec(rest);
    if (match === null) return { flags, rest };
    flags.push({ name: match[1]!, value: (match[2] ?? "").replace(/^"(.*)"$/, "$1") });
    rest = rest.slice(match[0].length);
  }
}

function jsonOf(text: string): readonly string[] | undefined {
  if (!text.trimStart().startsWith("[")) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    const isList = Array.isArray(value) && value.every((one) => typeof one === "string");
    return isList ? (value as string[]) : undefined;
  } catch {
    // It is the shell form, however much it looks like the other.
    return undefined;
  }
}
