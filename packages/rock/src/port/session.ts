/** Long-lived shells. */

/** A command's result in a session: stdout and stderr come interleaved, as on a terminal, in `output`. */
export interface SessionResult {
  /** null where it was killed (timeout, abort, close, sandbox gone). 130 is usual after an interrupt. */
  readonly exitCode: number | null;
  readonly output: string;
  readonly outputBytes: number;
  readonly truncated: boolean;
  readonly timedOut: boolean;
  /** Ended by `interrupt` or by aborting. The session stays usable. */
  readonly interrupted: boolean;
  /** The shell itself ended (exit, kill); a new one was started, so cwd and variables are lost. */
  readonly shellRestarted: boolean;
  readonly durationMs: number;
}

export interface SessionOptions {
  /** Default: the spec's user. */
  readonly user?: string;
  readonly cwd?: string;
  /** On top of the sandbox's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface CommandOptions {
  /** Default: `limits.execTimeoutMs`. */
  readonly timeoutMs?: number;
  /** Gets the output as it comes, before head and tail are cut. */
  readonly onOutput?: (chunk: Uint8Array) => void;
}

/**
 * A long-lived bash: cwd, variables and functions persist from one command to the next. One command at a time, the next one waits.
 * It is interactive without a terminal: aliases work, jobs go on in the background (`&`, `jobs`, `wait`, `kill %1`; not `fg`), and `&` prints
 * the job's number as on a terminal. Stdin of commands is empty. Aborting interrupts the command, not the session.
 */
export interface Session {
  readonly id: string;
  run(command: string, options?: CommandOptions, signal?: AbortSignal): Promise<SessionResult>;
  /**
   * Ctrl-C: ends the command that runs, if one does, with the rest of its list. What ignores it is killed after a second; a shell that ignores it is replaced. Jobs in
   * the background stay.
   */
  interrupt(): Promise<void>;
  /** Ends the shell and what runs in it (not daemons that left it). Safe to call twice. */
  close(): Promise<void>;
}
