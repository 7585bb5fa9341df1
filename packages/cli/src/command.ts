import type { Usage } from "./args.ts";
import type { Io } from "./io.ts";

/** One verb of `ale`. Its name may be two words ("episodes show"); the registry in commands.ts finds it by the longest match. */
export interface Command {
  readonly name: string;
  readonly summary: string;
  readonly usage: Usage;
  /**
   * Arguments after the name, without the global options. Failures that a person can act on are thrown as AleErrors. Resolves to one
   * of the codes of exit-codes.ts, or to that of a program that was run in a sandbox.
   */
  run(argv: readonly string[], io: Io, signal: AbortSignal): Promise<number>;
}
