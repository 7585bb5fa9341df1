import type { Telemetry } from "@ale/core";
import type { SimpleCommand } from "../shell-commands.ts";

/**
 * What the programs of a call would look like to a collector, from the call's text alone, so that rules over executions can keep a call
 * from running and find them where their own records come without arguments. What the text does not say is not in them: a program that a
 * script of the agent's starts is seen when it starts.
 */

/** What bash does by itself, starting no program, and where words are only said or remembered. Others act themselves: `kill`, `exec`, `trap`. */
const WORDS_ONLY = new Set(
  ": [ alias cd declare dirs echo export false hash help let local popd printf pushd pwd read readonly return set shift shopt test true type typeset umask unset".split(
    " ",
  ),
);

function isProgram({ program, path, via }: SimpleCommand): boolean {
  if (program === "") return false;
  const inShell =
    path?.text === program && via.every((prefix) => prefix === "command" || prefix === "builtin");
  return !(inShell && WORDS_ONLY.has(program));
}

export function expectedExecs(commands: readonly SimpleCommand[], at: number): Telemetry[] {
  return commands.filter(isProgram).map(({ program, path, args }): Telemetry => {
    const written = path?.text ?? program;
    const exe = written.includes("/") ? written : `/usr/bin/${written}`;
    const command = [written, ...args.map(({ text }) => text)].join(" ");
    // No process has number 1 but init, which never is the agent's.
    return { at, kind: "process.exec", source: "tool", sandbox: null, process: { pid: 1, exe, command } };
  });
}
