import { type Option, type Parsed, parseArguments, type Usage, usageError } from "../args.ts";

/**
 * `[options] ID [--] COMMAND...`: everything after the first positional argument is another program's, options and all. Throws
 * `usage`.
 */
export function parseWithCommand<O extends Readonly<Record<string, Option>>>(
  usage: Usage<O>,
  argv: readonly string[],
): { readonly values: Parsed<O>["values"]; readonly id: string; readonly command: readonly string[] } {
  const at = firstPositional(usage.options, argv);
  const id = argv[at];
  if (id === undefined) throw usageError("ID is missing", "ale rock ls shows them");
  const rest = argv.slice(at + 1);
  const command = rest[0] === "--" ? rest.slice(1) : rest;
  const { values } = parseArguments({ ...usage, positionals: "" }, argv.slice(0, at));
  return { values, id, command };
}

function firstPositional(options: Readonly<Record<string, Option>>, argv: readonly string[]): number {
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === "--") return i + 1;
    if (!word.startsWith("-") || word === "-") return i;
    const option = word.startsWith("--")
      ? options[word.slice(2)]
      : Object.values(options).find(({ short }) => short === word.at(-1));
    if (option?.type === "string") i++;
  }
  return argv.length;
}
