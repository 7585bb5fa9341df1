import type { CommandResult, ToolRuntime } from "@ale/flow";
import type { Sandbox } from "@ale/rock";

/** Plugs a sandbox into the agent's tools. Everything runs as the unprivileged agent user. */
export function sandboxRuntime(sandbox: Sandbox): ToolRuntime {
  return {
    async shell(command, signal): Promise<CommandResult> {
      const result = await sandbox.shell.run(command, {}, signal);
      return {
        exitCode: result.exitCode,
        output: result.output,
        outputBytes: result.outputBytes,
        timedOut: result.timedOut,
        durationMs: result.durationMs,
      };
    },
    async exec(argv, options, signal): Promise<CommandResult> {
      const result = await sandbox.exec(
        { argv, user: "agent", ...(options.stdin === undefined ? {} : { stdin: options.stdin }) },
        signal,
      );
      return {
        exitCode: result.exitCode,
        output: result.stdout + result.stderr,
        outputBytes: result.outputBytes,
        timedOut: result.timedOut,
        durationMs: result.durationMs,
      };
    },
  };
}
