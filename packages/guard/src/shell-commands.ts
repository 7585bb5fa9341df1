import { posix } from "node:path";
import { type Glob, type GlobPart, parseGlob } from "./shell-glob.ts";
import { type Token, tokensOf, type Word } from "./shell-lexer.ts";
import { type Argument, withoutPrefixes } from "./shell-prefixes.ts";

/**
 * The simple commands that a bash script would run, flattened: lists, pipelines, groups, substitutions, `sh -c`, `eval`,
 * here-documents fed to a shell, `find -exec` and prefixes such as `sudo` or `timeout` are followed. Directory changes and literal
 * assignments are tracked, also from one script to the next of the same session. What cannot be known stays unknown.
 */
export interface SimpleCommand {
  /** Base name; empty when there is only an assignment or a redirection. */
  readonly program: string;
  /** The program as it was written, e.g. `./run.sh`. */
  readonly path: Argument | null;
  readonly args: readonly Argument[];
  readonly redirects: readonly { readonly direction: "read" | "write"; readonly target: Argument }[];
  /** Literal text on standard input, from a here-document, a here-string or a literal `echo` in front of the pipe. */
  readonly stdin: string | null;
  /** Programs before this one in its pipeline, each once. */
  readonly from: readonly string[];
  /** Prefixes that were taken off, outermost first. */
  readonly via: readonly string[];
  /** null when it is not known. */
  readonly cwd: string | null;
  /** Assignments, program and arguments with quotes removed, joined by spaces. */
  readonly text: string;
}

export interface ShellState {
  readonly cwd: string | null;
  readonly variables: ReadonlyMap<string, string>;
}

export const shellStart = (cwd: string): ShellState => ({ cwd, variables: new Map() });

/**
 * Bounds on what one script may make of itself, because the text comes from an agent: `A=$A$A` doubles, `eval` multiplies. What lies
 * beyond them is not looked at; changes on disk are still seen.
 */
const MAX_DEPTH = 8;
const MAX_SCRIPT_BYTES = 2 ** 20;
const MAX_WORD_CHARS = 2 ** 16;
const MAX_VALUE_CHARS = 2 ** 12;
const MAX_VARIABLES = 256;
const MAX_PIPELINE = 32;
const MAX_FIND_ARGUMENTS = 256;
const MAX_FIND_ROOTS = 16;
const SHELLS = new Set(["sh", "bash", "dash", "zsh", "ash", "ksh"]);
const RESERVED = new Set([
  "if",
  "then",
  "else",
  "elif",
  "fi",
  "do",
  "done",
  "while",
  "until",
  "!",
  "{",
  "}",
  "time",
  "function",
]);

export function commandsOf(
  script: string,
  state: ShellState,
): { readonly commands: readonly SimpleCommand[]; readonly state: ShellState } {
  const walk = new Walk(state, 0, { chars: MAX_SCRIPT_BYTES });
  walk.script(script);
  return { commands: walk.commands, state: walk.state };
}

/** An absolute or `~` path, normalised; null for a relative one when the directory is not known. */
export function resolvePath(path: string, cwd: string | null): string | null {
  if (!path.startsWith("/") && !path.startsWith("~")) {
    if (cwd === null) return null;
    return resolvePath(`${cwd}/${path}`, null);
  }
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith("/") ? normal.slice(0, -1) : normal;
}

interface Draft {
  words: Word[];
  redirects: Extract<Token, { type: "redirect" }>[];
}

class Walk {
  readonly commands: SimpleCommand[] = [];
  state: ShellState;
  readonly #depth: number;
  /** What is left to look at, shared with the scripts inside. */
  readonly #budget: { chars: number };
  /** Names of the programs of the current pipeline so far, and its last command. */
  #from: readonly string[] = [];
  #before: SimpleCommand | null = null;

  constructor(state: ShellState, depth: number, budget: { chars: number }) {
    this.state = state;
    this.#depth = depth;
    this.#budget = budget;
  }

  script(script: string): void {
    this.#budget.chars -= script.length;
    if (this.#budget.chars < 0) return;
    const outer: ShellState[] = [];
    let draft: Draft = { words: [], redirects: [] };
    const finish = (): void => {
      if (draft.words.length + draft.redirects.length > 0) this.#finish(draft);
      draft = { words: [], redirects: [] };
    };
    for (const token of tokensOf(script)) {
      if (token.type === "word") draft.words.push(token.parts);
      else if (token.type === "redirect") draft.redirects.push(token);
      else {
        finish();
        if (token.text !== "|") {
          this.#from = [];
          this.#before = null;
        }
        // What a subshell does to directory and variables ends with it.
        if (token.text === "(") outer.push(this.state);
        if (token.text === ")") this.state = outer.pop() ?? this.state;
      }
    }
    finish();
  }

  #finish(draft: Draft): void {
    for (const part of [...draft.words, ...draft.redirects.flatMap((r) => [r.target, r.body ?? []])].flat())
      if (part.type === "script") this.#nested(part.text);
    const words = draft.words.map((word) => this.#expand(word));
    while (words[0] && RESERVED.has(words[0].text)) words.shift();
    if (words[0]?.text === "for" || words[0]?.text === "select") {
      if (words[1]) this.#assign(words[1].text, null);
      return;
    }
    if (words[0]?.text === "case") return;
    if (words.length + draft.redirects.length === 0) return;
    const isTest = words[0]?.text === "[[";
    this.#simple(words, isTest ? [] : draft.redirects);
  }

  #simple(words: readonly Argument[], redirects: Draft["redirects"]): void {
    const assigned = words.findIndex((word) => !/^[A-Za-z_]\w*\+?=/.test(word.text));
    const assignments = words.slice(0, assigned < 0 ? words.length : assigned);
    const rest = words.slice(assignments.length);
    if (rest.length === 0)
      for (const { text, known } of assignments) {
        const equals = text.indexOf("=");
        this.#assign(text.slice(0, equals), known ? text.slice(equals + 1) : null);
      }
    const { via, argv } = withoutPrefixes(rest);
    const [path, ...args] = argv;
    const bodies = redirects.flatMap((r) =>
      r.direction === "text" && r.body ? [this.#expand(r.body).text] : [],
    );
    const command: SimpleCommand = {
      program: path ? posix.basename(path.text) : "",
      path: path ?? null,
      args,
      redirects: redirects.flatMap(({ direction, target }) =>
        direction === "read" || direction === "write" ? [{ direction, target: this.#expand(target) }] : [],
      ),
      stdin: bodies.at(-1) ?? this.#pipedText(),
      from: this.#from,
      via,
      cwd: this.state.cwd,
      text: [...assignments, ...argv].map((word) => word.text).join(" "),
    };
    this.commands.push(command);
    if (!this.#from.includes(command.program) && this.#from.length < MAX_PIPELINE)
      this.#from = [...this.#from, command.program];
    this.#before = command;
    this.#follow(command);
  }

  /** What the command before the pipe prints, when that can be read off its arguments. */
  #pipedText(): string | null {
    const before = this.#before;
    if (!before || !["echo", "printf"].includes(before.program))
      return before?.program === "cat" ? before.stdin : null;
    const words = before.args.filter((arg) => !/^-[neE]+$/.test(arg.text)).map((arg) => arg.text);
    return words.join(" ").replace(/\\n/g, "\n");
  }

  /** State changes and scripts that this command runs in its turn. */
  #follow(command: SimpleCommand): void {
    const texts = command.args.map((arg) => arg.text);
    const { program } = command;
    if (program === "cd" || program === "pushd") this.#changeDirectory(command.args);
    else if (program === "export" || program === "declare" || program === "local" || program === "readonly")
      for (const arg of command.args) {
        const equals = arg.text.indexOf("=");
        if (equals > 0)
          this.#assign(arg.text.slice(0, equals), arg.known ? arg.text.slice(equals + 1) : null);
      }
    else if (program === "read") for (const name of texts) this.#assign(name, null);
    else if (program === "eval") this.#nested(texts.join(" "), true);
    else if (program === "find") this.#findExec(command);
    else if (SHELLS.has(program) || program === "su") this.#shell(command, texts);
  }

  #shell(command: SimpleCommand, texts: readonly string[]): void {
    const flag = texts.findIndex((text) => /^-[a-z]*c$/.test(text));
    const script = flag >= 0 ? texts[flag + 1] : undefined;
    if (script !== undefined) this.#nested(script);
    else if (command.stdin !== null && texts.every((text) => text.startsWith("-")))
      this.#nested(command.stdin);
  }

  #findExec(command: SimpleCommand): void {
    const texts = command.args.slice(0, MAX_FIND_ARGUMENTS).map((arg) => arg.text);
    const firstTest = texts.findIndex((text) => text.startsWith("-") || text === "(" || text === "!");
    const roots = command.args.slice(0, Math.min(MAX_FIND_ROOTS, firstTest < 0 ? texts.length : firstTest));
    const name = texts[texts.findIndex((text) => text === "-name" || text === "-iname") + 1];
    const hasName = texts.includes("-name") || texts.includes("-iname");
    const below = { type: "below" } as const;
    const tail: Glob =
      hasName && name !== undefined
        ? [below, { type: "text", text: "/" }, ...parseGlob(name, { hidden: true })]
        : [below];
    const found = (roots.length > 0 ? roots : [literal(".")]).map((root): Argument => {
      const base = resolvePath(root.text, command.cwd) ?? root.text;
      return {
        text: `${base}/{}`,
        known: false,
        pattern: [{ type: "text", text: base === "/" ? "" : base }, ...tail],
      };
    });
    for (let at = 0; at < texts.length; at++) {
      if (texts[at] === "-delete") this.#simple([literal("rm"), ...found], []);
      if (!/^-(?:exec|ok)(?:dir)?$/.test(texts[at]!)) continue;
      const end = texts.findIndex((text, index) => index > at && (text === ";" || text === "+"));
      const argv = command.args.slice(at + 1, end < 0 ? texts.length : end);
      this.#simple(
        argv.flatMap((arg) => (arg.text === "{}" ? found : [arg])),
        [],
      );
    }
  }

  /** A script inside the script. Its own shell keeps its state to itself, unless it is `eval`. */
  #nested(script: string, sameShell = false): void {
    if (this.#depth >= MAX_DEPTH) return;
    const inner = new Walk(this.state, this.#depth + 1, this.#budget);
    inner.script(script);
    for (const command of inner.commands) this.commands.push(command);
    if (sameShell) this.state = inner.state;
  }

  #changeDirectory(args: readonly Argument[]): void {
    const target = args.find((arg) => !/^-[LPe@]+$/.test(arg.text));
    const known =
      target === undefined ? true : target.known && target.pattern === null && target.text !== "-";
    this.state = { ...this.state, cwd: known ? resolvePath(target?.text ?? "~", this.state.cwd) : null };
  }

  #assign(name: string, value: string | null): void {
    const variables = new Map(this.state.variables);
    if (value === null || value.length > MAX_VALUE_CHARS) variables.delete(name);
    else if (variables.size < MAX_VARIABLES || variables.has(name)) variables.set(name, value);
    this.state = { ...this.state, variables };
  }

  #expand(word: Word): Argument {
    let text = "";
    const pattern: GlobPart[] = [];
    let known = true;
    let hasGlob = false;
    for (const part of word) {
      if (text.length > MAX_WORD_CHARS) break;
      if (part.type === "glob") {
        hasGlob = true;
        text += part.text;
        pattern.push(...parseGlob(part.text));
        continue;
      }
      const value =
        part.type === "literal" ? part.text : part.type === "variable" ? this.#value(part.name) : null;
      known &&= value !== null;
      const shown = value ?? (part.type === "variable" ? `$${part.name}` : "$(…)");
      text += shown;
      pattern.push({ type: "text", text: shown });
    }
    return { text, known, pattern: hasGlob && known ? fromHere(pattern) : null };
  }

  #value(name: string): string | null {
    if (name === "HOME") return this.state.variables.get(name) ?? "~";
    if (name === "PWD") return this.state.cwd;
    return this.state.variables.get(name) ?? null;
  }
}

/** Without the `./` in front: what it names is below the directory anyway. */
function fromHere(glob: Glob): Glob {
  const [first, ...rest] = glob;
  return first?.type === "text" ? [{ ...first, text: first.text.replace(/^(?:\.\/)+/, "") }, ...rest] : glob;
}

const literal = (text: string): Argument => ({ text, known: true, pattern: null });
