import { parseArgs } from "node:util";
import { AleError } from "@ale/core/result";
import { suggest } from "@ale/core/suggest";

/**
 * Command lines. A command declares its options once; from that come the strict parser, its types and the help text. Whatever is
 * not declared is refused with the nearest declared name.
 */

export interface Option {
  readonly type: "string" | "boolean";
  readonly short?: string;
  /** May be given several times; its value is then a list. */
  readonly multiple?: boolean;
  /** Stands for the value in the help text, e.g. "N" or "DIR". */
  readonly value?: string;
  readonly help: string;
}

export interface Usage<O extends Readonly<Record<string, Option>> = Readonly<Record<string, Option>>> {
  /** e.g. "[RUN]" or "EPISODE"; a name in brackets is optional, "..." allows more. Empty: no positional arguments. */
  readonly positionals: string;
  readonly options: O;
  /** Paragraphs below the options: what it reads and writes, an example. */
  readonly notes?: string;
}

type ValueOf<O extends Option> = O["type"] extends "boolean"
  ? boolean
  : O["multiple"] extends true
    ? readonly string[] | undefined
    : string | undefined;

export interface Parsed<O extends Readonly<Record<string, Option>>> {
  readonly values: { readonly [K in keyof O]: ValueOf<O[K]> };
  readonly positionals: readonly string[];
}

/** Options that every command has. They are taken out before a command sees its arguments. */
export const GLOBAL_OPTIONS = {
  json: { type: "boolean", help: "print one JSON value as the last line of stdout; all else goes to stderr" },
  yes: { type: "boolean", short: "y", help: "answer every question with yes, approvals excepted" },
  home: {
    type: "string",
    value: "DIR",
    help: "where ALE keeps everything (default: $ALE_HOME, else ~/.ale)",
  },
  verbose: { type: "boolean", help: "show the stack of an error" },
  help: { type: "boolean", short: "h", help: "this text" },
} as const satisfies Readonly<Record<string, Option>>;

export const usageError = (message: string, next?: string): AleError =>
  new AleError("usage", message, next === undefined ? {} : { next });

/** Keeps the literal types of a declaration, from which `parseArguments` derives its result. */
export const defineUsage = <const O extends Readonly<Record<string, Option>>>(usage: Usage<O>): Usage<O> =>
  usage;

/** Throws an AleError with code `usage` on anything that was not declared, and on what is empty: an unset variable, as a rule. */
export function parseArguments<O extends Readonly<Record<string, Option>>>(
  usage: Usage<O>,
  argv: readonly string[],
): Parsed<O> {
  const { tokens } = parse(usage.options, argv);
  const values: Record<string, boolean | string | string[]> = {};
  for (const [name, option] of Object.entries(usage.options)) {
    if (option.type === "boolean") values[name] = false;
  }
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const option = usage.options[token.name];
    if (option === undefined && isFlag(token.name)) throw usageError(`--${token.name} takes no value`);
    if (option === undefined) throw unknownOption(token.rawName, Object.keys(usage.options));
    if (option.type === "boolean") {
      if (token.inlineValue) throw usageError(`--${token.name} takes no value`);
      values[token.name] = true;
      continue;
    }
    const value = token.value;
    if (value === undefined || (!token.inlineValue && /^-[^\d]/.test(value)))
      throw usageError(
        `--${token.name} needs a value`,
        `--${token.name} ${option.value ?? "VALUE"}: ${option.help}`,
      );
    if (value.trim() === "")
      throw usageError(
        `--${token.name} is empty`,
        `--${token.name} ${option.value ?? "VALUE"}: ${option.help}`,
      );
    if (option.multiple)
      values[token.name] = [...((values[token.name] as string[] | undefined) ?? []), value];
    else values[token.name] = value;
  }
  checkCount(usage.positionals, positionals);
  return { values: values as Parsed<O>["values"], positionals };
}

function parse(options: Readonly<Record<string, Option>>, argv: readonly string[]) {
  const config = Object.fromEntries(
    Object.entries(options).map(([name, option]) => [
      name,
      { type: option.type, multiple: true, ...(option.short === undefined ? {} : { short: option.short }) },
    ]),
  );
  return parseArgs({ args: [...argv], options: config, strict: false, allowPositionals: true, tokens: true });
}

/** One that every command has was taken out before, unless it came as `--json=…`. */
const isFlag = (name: string): boolean =>
  Object.entries(GLOBAL_OPTIONS).some(([known, { type }]) => known === name && type === "boolean");

function unknownOption(rawName: string, known: readonly string[]): AleError {
  const all = [...known, ...Object.keys(GLOBAL_OPTIONS)];
  const near = suggest(rawName.replace(/^--?(no-)?/, ""), all);
  return usageError(
    `unknown option ${rawName}`,
    near === undefined ? `it knows ${all.map((name) => `--${name}`).join(", ")}` : `did you mean --${near}?`,
  );
}

function checkCount(declared: string, given: readonly string[]): void {
  const names = declared.split(" ").filter((name) => name !== "");
  const required = names.filter((name) => !name.startsWith("["));
  const unbounded = names.some((name) => name.includes("..."));
  if (given.length < required.length) throw usageError(`${required[given.length]} is missing`);
  if (!unbounded && given.length > names.length)
    throw usageError(`unexpected argument ${given[names.length]}`, "see --help");
  const empty = given.findIndex((word) => word.trim() === "");
  if (empty >= 0) {
    const name = names[Math.min(empty, names.length - 1)]!.replace(/[[\].]/g, "");
    throw usageError(`${name} is empty`, "see --help");
  }
}

export interface GlobalValues {
  readonly json: boolean;
  readonly yes: boolean;
  readonly verbose: boolean;
  readonly help: boolean;
  readonly home: string | undefined;
}

/** Takes the global options out of a command line, wherever they stand before a `--`. */
export function takeGlobals(argv: readonly string[]): { globals: GlobalValues; rest: readonly string[] } {
  const found = {
    json: false,
    yes: false,
    verbose: false,
    help: false,
    home: undefined as string | undefined,
  };
  const rest: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === "--") {
      rest.push(...argv.slice(i));
      break;
    }
    if (word === "--json") found.json = true;
    else if (word === "--yes" || word === "-y") found.yes = true;
    else if (word === "--verbose") found.verbose = true;
    else if (word === "--help" || word === "-h") found.help = true;
    else if (word === "--home" || word.startsWith("--home=")) {
      found.home = word === "--home" ? argv[++i] : word.slice("--home=".length);
      if (!found.home) throw usageError("--home needs a value", "--home DIR");
    } else rest.push(word);
  }
  return { globals: found, rest };
}

/** A whole number within bounds, or undefined when the option was not given. Throws `usage`. */
export function wholeNumber(
  name: string,
  text: string | undefined,
  bounds: { readonly min?: number; readonly max?: number } = {},
): number | undefined {
  if (text === undefined) return undefined;
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = bounds;
  const value = Number(text);
  if (!/^[+-]?\d+$/.test(text) || value < min || value > max)
    throw usageError(
      `${name}: ${JSON.stringify(text)} is not a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? " up" : ` to ${max}`}`,
    );
  return value;
}

/** One of a fixed set of words, or undefined when the option was not given. Throws `usage` with the nearest word. */
export function oneOf<T extends string>(
  name: string,
  text: string | undefined,
  known: readonly T[],
): T | undefined {
  if (text === undefined) return undefined;
  const match = known.find((word) => word === text);
  if (match !== undefined) return match;
  const near = suggest(text, known);
  throw usageError(
    `${name}: ${JSON.stringify(text)} is not known`,
    near === undefined
      ? `one of: ${known.join(", ")}`
      : `did you mean ${near}? (one of: ${known.join(", ")})`,
  );
}
