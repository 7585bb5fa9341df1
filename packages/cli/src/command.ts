import type { Usage } from "./args.ts";
import type { Io } from "./io.ts";

/** One verb of `ale`: what the overview says of it, and where the rest is. The table of all of them is commands.ts. */
export interface Command {
  /** One to three words ("episodes show"); the longest match is meant. */
  readonly name: string;
  readonly summary: string;
  /**
   * Makes sandboxes or images in this very process, or unpacks directories that even their owner may not write to: an ordinary user needs a
   * namespace of his own for that.
   */
  readonly hosts?: true;
  /** Only the module of the verb that is called is loaded: a command line should not wait for what it does not use. */
  load(): Promise<Action>;
}

export interface Action {
  readonly usage: Usage;
  /** It goes on until somebody ends it: Ctrl-C is its end, no interruption, and its own outcome is the outcome. */
  readonly endsBySignal?: true;
  /** Interrupted, it goes on where it was when the same command is given again. Others begin anew. */
  readonly goesOn?: true;
  /**
   * Arguments after the name, without the global options. Failures that a person can act on are thrown as AleErrors. Resolves to one
   * of the codes of exit-codes.ts, or to that of a program that was run in a sandbox.
   */
  run(argv: readonly string[], io: Io, signal: AbortSignal): Promise<number>;
}
