import type { Telemetry } from "@ale/core";
import type { SimpleCommand } from "../shell-commands.ts";

/**
 * What the programs of a call would look like to a collector, from the call's text alone, so that rules over executions can keep a call
 * from running. What the text does not say is not in them: a program that a script of the agent's starts is seen when it starts.
 */
export function expectedExecs(commands: readonly SimpleCommand[], at: number): Telemetry[] {
  return commands
    .filter(({ program }) => program !== "")
    .map(({ program, path, args }): Telemetry => {
      const written = path?.text ?? program;
      const exe = written.includes("/") ? written : `/usr/bin/${written}`;
      const command = [written, ...args.map(({ text }) => text)].join(" ");
      // No process has number 1 but init, which never is the agent's.
      return { at, kind: "process.exec", source: "tool", sandbox: null, process: { pid: 1, exe, command } };
    });
}
