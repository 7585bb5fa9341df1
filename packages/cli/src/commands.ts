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
import { rockCp } from "./commands/rock-cp.ts";
import { rockCreate } from "./commands/rock-create.ts";
import { rockExec } from "./commands/rock-exec.ts";
import { rockGc } from "./commands/rock-gc.ts";
import { rockImageCommands } from "./commands/rock-image.ts";
import { rockLifeCommands } from "./commands/rock-life.ts";
import { rockLogs } from "./commands/rock-logs.ts";
import { rockLs } from "./commands/rock-ls.ts";
import { rockServe } from "./commands/rock-serve.ts";
import { rockShell } from "./commands/rock-shell.ts";
import { rockSnapshotCommands } from "./commands/rock-snapshot.ts";
import { rockStats } from "./commands/rock-stats.ts";
import { rockTokenCommands } from "./commands/rock-token.ts";
import { rockTop } from "./commands/rock-top.ts";
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
  rockServe,
  rockCreate,
  rockLs,
  rockExec,
  rockShell,
  rockCp,
  ...rockSnapshotCommands,
  rockLogs,
  rockStats,
  rockTop,
  ...rockLifeCommands,
  rockGc,
  ...rockImageCommands,
  ...rockTokenCommands,
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
