import { resolvePath, type SimpleCommand } from "./shell-commands.ts";
import { type Glob, matchesGlob } from "./shell-glob.ts";
import type { Argument } from "./shell-prefixes.ts";

/**
 * Which paths a command reads and writes, as far as its text tells. `write` means any change: content, name, mode, existence.
 * Programs that are not known are taken to read the files they are given, because most do.
 */
export interface PathEffect {
  readonly effect: "read" | "write";
  /** Absolute or beginning with `~`; null for globs and when the directory is not known. */
  readonly path: string | null;
  /** For rules that judge places, not single files: the path as written, made absolute, globs included. */
  readonly written: string | null;
  /** Matches absolute paths; covers globs and paths of unknown directory. */
  readonly pattern: Glob | null;
  /** Whether everything below the path is meant too. */
  readonly recursive: boolean;
}

/** Program text given to an interpreter; searched for paths, not understood. */
export interface CodeFragment {
  readonly code: string;
  readonly cwd: string | null;
}

const NOTHING = new Set([
  ..."echo printf ls stat test [ [[ cd pwd pushd popd which type command hash alias export set unset true false : exit".split(
    " ",
  ),
  ..."basename dirname realpath readlink find du df kill sleep date id whoami man help mkdir wait jobs seq expr let".split(
    " ",
  ),
]);
const CHANGES_ALL = new Set("rm rmdir unlink shred tee touch truncate mkfifo nano vi vim ed ex".split(" "));
const CHANGES_AFTER_FIRST = new Set(["chmod", "chown", "chgrp", "chattr", "setfacl"]);
const COPIES = new Set(["cp", "mv", "install", "ln", "rsync", "scp"]);
const PATTERN_FIRST = new Set(["grep", "egrep", "fgrep", "rg", "ag", "sed", "awk", "gawk", "mawk", "jq"]);
const INTERPRETERS = /^(?:python[\d.]*|node|nodejs|perl|ruby|php|lua)$/;
const RECURSES = new Set(["rm", "mv", "rsync", "tar", "zip", "shred", "rg", "ag"]);
const WRITES_ITS_OUTPUT = new Set(["sort", "curl", "gcc", "cc", "g++", "ld", "wget", "openssl", "gpg"]);

export function effectsOf(command: SimpleCommand): PathEffect[] {
  const effects = command.redirects.map(({ direction, target }) =>
    effect(direction, target, command.cwd, false),
  );
  return [...effects, ...argumentEffects(command)];
}

function argumentEffects(command: SimpleCommand): PathEffect[] {
  const { program, cwd } = command;
  const recursive = RECURSES.has(program) || hasFlag(command.args, "rRa", ["recursive", "archive"]);
  const read = (arg: Argument): PathEffect => effect("read", arg, cwd, recursive);
  const write = (arg: Argument): PathEffect => effect("write", arg, cwd, recursive);
  const operands = command.args.filter((arg) => !arg.text.startsWith("-") || arg.text === "-");
  const ran = command.path?.text.includes("/") ? [effect("read", command.path, cwd, false)] : [];

  if (program === "" || NOTHING.has(program)) return [];
  if (CHANGES_ALL.has(program)) return operands.map(write);
  if (CHANGES_AFTER_FIRST.has(program)) return operands.slice(1).map(write);
  if (COPIES.has(program)) return copyEffects(command, operands, read, write);
  if (program === "dd")
    return operands.flatMap((arg) => {
      const [, key, path] = /^(if|of)=(.*)$/s.exec(arg.text) ?? [];
      if (path === undefined) return [];
      return [key === "of" ? write({ ...arg, text: path }) : read({ ...arg, text: path })];
    });
  if (program === "git") return gitEffects(operands, write);
  if (program === "patch") return operands.map(write);
  if (INTERPRETERS.test(program) && hasFlag(command.args, "ceE", [])) {
    const inPlace = (program === "perl" || program === "ruby") && hasFlag(command.args, "i", []);
    return operands.slice(1).map(inPlace ? write : read);
  }
  if (PATTERN_FIRST.has(program)) {
    const scriptByFlag = hasFlag(command.args, "ef", ["expression", "file", "regexp"]);
    const files = scriptByFlag ? operands : operands.slice(1);
    const inPlace =
      program === "sed"
        ? hasFlag(command.args, "i", ["in-place"])
        : /awk/.test(program) && hasFlag(command.args, "i", []);
    const here =
      recursive && files.length === 0
        ? [effect("read", { text: ".", known: true, pattern: null }, cwd, true)]
        : [];
    return [...files.map(inPlace ? write : read), ...here];
  }
  const output = new Set(WRITES_ITS_OUTPUT.has(program) ? outputArguments(command.args) : []);
  return [...ran, ...operands.filter((arg) => !output.has(arg)).map(read), ...[...output].map(write)];
}

/** The last operand is written (or, as a directory, receives the others); with `-t`, the directory comes first. */
function copyEffects(
  command: SimpleCommand,
  operands: readonly Argument[],
  read: (arg: Argument) => PathEffect,
  write: (arg: Argument) => PathEffect,
): PathEffect[] {
  const flag = command.args.findIndex((arg) => /^-[a-zA-Z]*t$/.test(arg.text));
  const target = flag >= 0 ? command.args[flag + 1] : operands.at(-1);
  if (!target) return [];
  const sources = operands.filter((arg) => arg !== target);
  const inside = sources.map((source): Argument => {
    const name = source.text.slice(source.text.lastIndexOf("/") + 1);
    return { ...target, text: `${target.text}/${name}`, known: target.known && source.known, pattern: null };
  });
  // A moved or linked file can be read under its new name, so moving and linking count as reading too.
  const taken =
    command.program === "mv" ? sources.flatMap((arg) => [read(arg), write(arg)]) : sources.map(read);
  const written = { ...write(target), recursive: false };
  return [...taken, written, ...inside.map((arg) => ({ ...write(arg), recursive: false }))];
}

function gitEffects(operands: readonly Argument[], write: (arg: Argument) => PathEffect): PathEffect[] {
  const [verb, ...rest] = operands;
  return verb && ["checkout", "restore", "rm", "mv", "clean"].includes(verb.text) ? rest.map(write) : [];
}

function outputArguments(args: readonly Argument[]): Argument[] {
  return args.flatMap((arg, index) => {
    const next = args[index + 1];
    return /^(?:-[a-zA-Z]*[oO]|--output|--output-document)$/.test(arg.text) && next ? [next] : [];
  });
}

/** Code given to interpreters by `-c`, `-e` or standard input. */
export function codeOf(command: SimpleCommand): CodeFragment[] {
  if (!INTERPRETERS.test(command.program) && !/^[gm]?awk$/.test(command.program)) return [];
  const given = command.args.flatMap((arg, index) => {
    const next = command.args[index + 1];
    return /^-[a-zA-Z]*[ceE]$/.test(arg.text) && next ? [next.text] : [];
  });
  if (/awk$/.test(command.program)) given.push(...command.args.slice(0, 1).map((arg) => arg.text));
  if (command.stdin !== null) given.push(command.stdin);
  return given.map((code) => ({ code, cwd: command.cwd }));
}

const CODE_WRITES =
  /["'](?:w|a|x|r\+|w\+|a\+)[bt]?["']|write_text|write_bytes|writeFile|appendFile|unlink|remove|rename|replace\(|rmtree|chmod|truncate|shutil|copyfile|file_put_contents|["']\s*>{1,2}|>{1,2}\s*["']/;

/** What a piece of code does to one path, if it names it between quotes (absolute or relative to its directory). */
export function codeEffect(fragment: CodeFragment, path: string): PathEffect["effect"] | null {
  const names = [path];
  if (fragment.cwd !== null && path.startsWith(`${fragment.cwd}/`)) {
    const relative = path.slice(fragment.cwd.length + 1);
    names.push(relative, `./${relative}`);
  }
  if (!names.some((name) => isQuoted(fragment.code, name))) return null;
  return CODE_WRITES.test(fragment.code) ? "write" : "read";
}

function isQuoted(code: string, name: string): boolean {
  for (let at = code.indexOf(name); at >= 0; at = code.indexOf(name, at + 1))
    if (QUOTES.includes(code[at - 1]) && QUOTES.includes(code[at + name.length])) return true;
  return false;
}

const QUOTES: readonly unknown[] = ['"', "'", "`"];

/** Whether an effect reaches a path: the path itself, something below it, or something above it when it is recursive. */
export function reaches(effect: PathEffect, path: string): boolean {
  if (effect.pattern !== null && matchesGlob(effect.pattern, path)) return true;
  if (effect.path === null) return false;
  if (effect.path === path || effect.path.startsWith(`${path}/`)) return true;
  return effect.recursive && (effect.path === "/" || path.startsWith(`${effect.path}/`));
}

function effect(
  kind: PathEffect["effect"],
  arg: Argument,
  cwd: string | null,
  recursive: boolean,
): PathEffect {
  const path = arg.known ? resolvePath(arg.text, cwd) : null;
  if (arg.pattern !== null) {
    const pattern = [...baseOf(arg, cwd), ...arg.pattern, ...(recursive ? [BELOW] : [])];
    return { effect: kind, path: null, written: resolvePath(arg.text, cwd), pattern, recursive };
  }
  if (path !== null || !arg.known || arg.text === "")
    return { effect: kind, path, written: path, pattern: null, recursive };
  const text = arg.text.replace(/^(?:\.\/)+/, "");
  return { effect: kind, path: null, written: null, pattern: [DIRECTORY, { type: "text", text }], recursive };
}

const BELOW = { type: "below" } as const;
const DIRECTORY = { type: "directory" } as const;

/** What stands in front of a glob that is relative. */
function baseOf(arg: Argument, cwd: string | null): Glob {
  if (/^[/~]/.test(arg.text)) return [];
  return cwd === null ? [DIRECTORY] : [{ type: "text", text: cwd === "/" ? "/" : `${cwd}/` }];
}

/** Short flags also in clusters (`-rf`); long ones also with a value (`--in-place=.bak`). */
function hasFlag(args: readonly Argument[], short: string, long: readonly string[]): boolean {
  return args.some(({ text }) => {
    if (text.startsWith("--")) return long.includes(text.slice(2).split("=")[0]!);
    return text.startsWith("-") && [...text.slice(1)].some((char) => short.includes(char));
  });
}
