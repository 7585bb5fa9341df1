import type { Limits, NetworkPolicy, Result, SandboxFile } from "@ale/core";

/**
 * What every sandbox driver offers. Drivers differ in what they can enforce and say so in their capability record; a task
 * that asks for more than the host has is refused, never run weaker.
 */

export interface Capabilities {
  readonly driver: "oci";
  /** OCI runtime and its version, e.g. "crun 1.8.1". */
  readonly runtime: string;
  readonly rootless: boolean;
  readonly cgroup: "v1" | "v2" | "hybrid" | "none";
  readonly userns: boolean;
  /** Limits that the host can enforce hard. */
  readonly enforces: {
    readonly cpu: boolean;
    readonly memory: boolean;
    readonly pids: boolean;
    readonly disk: boolean;
  };
  readonly network: readonly NetworkPolicy["mode"][];
}

export interface SandboxSpec {
  /** Name of a local image, e.g. "ale/base". */
  readonly image: string;
  /** Written before any process starts, therefore without the cost or the races of an upload. */
  readonly files: readonly SandboxFile[];
  readonly limits: Limits;
  readonly network: NetworkPolicy;
  /** Created, owned by the agent user. */
  readonly workdir: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Kept in the sandbox's state file for people and for `ale rock ls`. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ExecRequest {
  readonly argv: readonly string[];
  readonly user: "agent" | "root";
  /** Default: the workdir for the agent, `/` for root. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly timeoutMs?: number;
}

export interface ExecResult {
  /** null when the command was killed (timeout, limit, sandbox gone). */
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

/** A command's result in a session: stdout and stderr come interleaved, as on a terminal, in `output`. */
export interface SessionResult {
  readonly exitCode: number | null;
  readonly output: string;
  readonly outputBytes: number;
  readonly truncated: boolean;
  readonly timedOut: boolean;
  /** The shell itself ended (exit, kill); a new one was started, so cwd and variables are lost. */
  readonly shellRestarted: boolean;
  readonly durationMs: number;
}

/** A long-lived bash: cwd, variables and functions persist from one command to the next. One command at a time. */
export interface Session {
  /** Stdin of commands is empty. Aborting kills the command, not the session. */
  run(
    command: string,
    options?: { readonly timeoutMs?: number },
    signal?: AbortSignal,
  ): Promise<SessionResult>;
}

export interface Fingerprint {
  readonly path: string;
  readonly exists: boolean;
  /** SHA-256 of a regular file's bytes; of the sorted entry names and their fingerprints for a directory. */
  readonly sha256: string | null;
  readonly mode: number | null;
  readonly size: number | null;
  /** Whether the file was opened for reading since the sandbox was made. Regular files put there by `files` only. */
  readonly wasRead: boolean;
}

export type FileError = {
  readonly type: "not-found" | "not-a-file" | "too-large" | "unsafe-path" | "sandbox-gone";
  readonly path: string;
};

export interface Sandbox extends AsyncDisposable {
  readonly id: string;
  readonly spec: SandboxSpec;
  /** The agent's shell, running as the unprivileged agent user in the workdir. */
  readonly shell: Session;
  /** Runs a program that shares nothing with the agent's shell. This is what the verifier uses. */
  exec(request: ExecRequest, signal?: AbortSignal): Promise<ExecResult>;
  /** Safe against symbolic links planted inside the sandbox: nothing outside its root filesystem is ever touched. */
  writeFiles(files: readonly SandboxFile[], signal?: AbortSignal): Promise<Result<void, FileError>>;
  readFile(
    path: string,
    options?: { readonly maxBytes?: number },
    signal?: AbortSignal,
  ): Promise<Result<Uint8Array, FileError>>;
  /** State of some paths, read from outside without disturbing it (a fingerprint never counts as a read). */
  fingerprint(paths: readonly string[], signal?: AbortSignal): Promise<readonly Fingerprint[]>;
  /** Ends every process of the sandbox except its init: what the agent left running must not see the verifier. */
  killAgentProcesses(signal?: AbortSignal): Promise<void>;
  /** Ends everything and removes every trace on the host. Safe to call twice. */
  destroy(): Promise<void>;
}

export interface ReapReport {
  /** Sandboxes whose owner process was gone, with everything they left behind. */
  readonly reaped: readonly string[];
  /** Sandboxes that belong to living owners and were left alone. */
  readonly alive: readonly string[];
  readonly failures: readonly { readonly id: string; readonly what: string }[];
}

export interface SandboxDriver extends AsyncDisposable {
  capabilities(): Promise<Capabilities>;
  /** Fails with an AleError that names what is missing and how to get it. Concurrency is bounded inside. */
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox>;
  /** Removes what crashed owners left: processes, mounts, cgroups, directories. Never touches a living owner's sandboxes. */
  reap(): Promise<ReapReport>;
}
