import type { ContextFull, Message, Turn } from "@ale/core";

/** What the agent needs from the world. `roll`, `bench` and the CLI plug sandboxes and the gateway in here. */

export interface CommandResult {
  readonly exitCode: number | null;
  /** What a person would have seen on the terminal. */
  readonly output: string;
  readonly outputBytes: number;
  readonly timedOut: boolean;
  readonly durationMs: number;
}

/** The only way tools touch anything. Both run as the unprivileged agent user. */
export interface ToolRuntime {
  /** In the long-lived shell: cwd, variables and functions persist. */
  shell(command: string, signal?: AbortSignal): Promise<CommandResult>;
  /** A program of its own in the workdir, not through the shell. */
  exec(
    argv: readonly string[],
    options: { readonly stdin?: string },
    signal?: AbortSignal,
  ): Promise<CommandResult>;
}

/** The next chunk for a context. Must not keep what it was not given: the messages are the whole state. */
export interface Model {
  next(messages: readonly Message[], signal?: AbortSignal): Promise<Turn | ContextFull>;
}
