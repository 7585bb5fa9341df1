import type { Duplex } from "node:stream";

/** Programs in a sandbox: started, fed, read while they run, ended. */

export interface ExecRequest {
  readonly argv: readonly string[];
  /** Name or "uid[:gid]" as the sandbox's own /etc/passwd has it. Default: the spec's user. */
  readonly user?: string;
  /** Default: the workdir; `/` for root where another user is the sandbox's own. */
  readonly cwd?: string;
  /** On top of the sandbox's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: `limits.execTimeoutMs`. */
  readonly timeoutMs?: number;
}

export interface RunRequest extends ExecRequest {
  readonly stdin?: string | Uint8Array;
}

export interface ExecResult {
  /** null when the command was killed (timeout, limit, cancelled, sandbox gone). 128 + n where it died of signal n by itself. */
  readonly exitCode: number | null;
  /** UTF-8, invalid bytes replaced; at most `limits.outputBytes`, head and tail kept. */
  readonly stdout: string;
  readonly stderr: string;
  /** All bytes produced, kept or not. */
  readonly outputBytes: number;
  readonly truncated: boolean;
  readonly timedOut: boolean;
  readonly durationMs: number;
}

export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

export interface StartRequest extends ExecRequest {
  /** A pseudo terminal: stdout and stderr then come together on `stdout`. */
  readonly tty?: TerminalSize;
  /** Whether stdin stays open for `stdin.write`. Default: false, stdin is empty. */
  readonly stdin?: boolean;
}

export type Signal =
  | "SIGHUP"
  | "SIGINT"
  | "SIGQUIT"
  | "SIGKILL"
  | "SIGUSR1"
  | "SIGUSR2"
  | "SIGTERM"
  | "SIGSTOP"
  | "SIGCONT";

export interface ProcessExit {
  /** 128 + n where it died of signal n; null where `reason` is not "exited". */
  readonly exitCode: number | null;
  /** The signal it died of, e.g. 9; null where it exited. */
  readonly signal: number | null;
  readonly reason: "exited" | "timeout" | "cancelled" | "killed" | "sandbox-gone";
}

/**
 * A running program. Its output is delivered whole and in order to whoever reads; nobody reading stops the program at a full
 * pipe (back-pressure), it never fills the host's memory. Ending the iteration early discards the rest. What it leaves running in the
 * background is not waited for, and has no reader any more when it has ended.
 */
export interface Process {
  readonly id: string;
  /** In the sandbox's own process namespace. */
  readonly pid: number;
  readonly stdout: AsyncIterable<Uint8Array>;
  readonly stderr: AsyncIterable<Uint8Array>;
  /** Resolves when the bytes have been taken. Rejects with an AleError `stdin-closed` where the program no longer reads. */
  write(data: string | Uint8Array): Promise<void>;
  /** After what was written before. On a terminal it types Ctrl-D. */
  closeStdin(): Promise<void>;
  /** To the program's whole process group. */
  signal(signal: Signal): Promise<void>;
  resize(size: TerminalSize): Promise<void>;
  /**
   * Never rejects. Resolves when the last byte of output is here: what was not read yet, 256 KiB of each stream at most, waits for its
   * reader. A program that writes more than that ends only when it is read, or its deadline comes.
   */
  readonly exit: Promise<ProcessExit>;
}

/** A connection to a port that a program listens on inside the sandbox. */
export type Connection = Duplex;
