import { suggest } from "@ale/core/suggest";
import { usageError } from "./args.ts";
import type { Command } from "./command.ts";
import { COMMANDS } from "./commands.ts";

export type Found =
  | { readonly type: "command"; readonly command: Command; readonly argv: readonly string[] }
  | { readonly type: "group"; readonly group: string; readonly commands: readonly Command[] };

/** Finds the command that the words begin with, the longest name first. Throws `usage` with the nearest name. */
export function findCommand(words: readonly string[], commands: readonly Command[] = COMMANDS): Found {
  const byLength = [...commands].sort((a, b) => b.name.length - a.name.length);
  for (const command of byLength) {
    const name = command.name.split(" ");
    if (name.every((word, i) => words[i] === word))
      return { type: "command", command, argv: words.slice(name.length) };
  }
  const group = longestGroup(words, commands);
  if (group !== undefined) {
    const inGroup = commands.filter((command) => command.name.startsWith(`${group} `));
    const word = words[group.split(" ").length];
    if (word === undefined) return { type: "group", group, commands: inGroup };
    const known = [...new Set(inGroup.map(({ name }) => name.slice(group.length + 1).split(" ")[0]!))];
    const near = suggest(word, known);
    throw usageError(
      `ale ${group} has no command ${word}`,
      near === undefined ? `it has: ${known.join(", ")}` : `did you mean: ale ${group} ${near}?`,
    );
  }
  const first = words[0] ?? "";
  const firsts = [...new Set(commands.map((command) => command.name.split(" ")[0]!))];
  const near = suggest(first, firsts);
  throw usageError(
    `unknown command ${first}`,
    near === undefined ? `ale --help lists all of them` : `did you mean: ale ${near}?`,
  );
}

/** "rock image" of "rock image sl", where commands begin with it. */
function longestGroup(words: readonly string[], commands: readonly Command[]): string | undefined {
  for (let length = words.length; length > 0; length--) {
    const group = words.slice(0, length).join(" ");
    if (commands.some((command) => command.name.startsWith(`${group} `))) return group;
  }
  return undefined;
}
