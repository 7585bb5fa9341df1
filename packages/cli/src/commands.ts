import { suggest } from "@ale/core";
import { usageError } from "./args.ts";
import type { Command } from "./command.ts";
import { benchRun } from "./commands/bench-run.ts";
import { doctor } from "./commands/doctor.ts";
import { episodesLs } from "./commands/episodes-ls.ts";
import { episodesReplay } from "./commands/episodes-replay.ts";
import { episodesShow } from "./commands/episodes-show.ts";
import { episodesVerify } from "./commands/episodes-verify.ts";
import { guardRuleCommands } from "./commands/guard-rules.ts";
import { quickstart } from "./commands/quickstart.ts";
import { run } from "./commands/run.ts";
import { setupCommands } from "./commands/setup.ts";
import { train } from "./commands/train.ts";

/** Every verb of `ale`, in the order in which the help shows them. */
export const COMMANDS: readonly Command[] = [
  quickstart,
  train,
  run,
  benchRun,
  episodesLs,
  episodesShow,
  episodesVerify,
  episodesReplay,
  ...guardRuleCommands,
  doctor,
  ...setupCommands,
];

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
  const first = words[0] ?? "";
  const group = commands.filter((command) => command.name.startsWith(`${first} `));
  if (group.length > 0) {
    const second = words[1];
    if (second === undefined) return { type: "group", group: first, commands: group };
    const known = group.map((command) => command.name.slice(first.length + 1));
    const near = suggest(second, known);
    throw usageError(
      `ale ${first} has no command ${second}`,
      near === undefined ? `it has: ${known.join(", ")}` : `did you mean: ale ${first} ${near}?`,
    );
  }
  const firsts = [...new Set(commands.map((command) => command.name.split(" ")[0]!))];
  const near = suggest(first, firsts);
  throw usageError(
    `unknown command ${first}`,
    near === undefined ? `ale --help lists all of them` : `did you mean: ale ${near}?`,
  );
}
