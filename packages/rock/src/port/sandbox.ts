import type { Limits, NetworkPolicy, Result, SandboxFile } from "@ale/core";
import type { FileError, SandboxFiles } from "./files.ts";
import type { Connection, ExecResult, Process, RunRequest, StartRequest } from "./process.ts";
import type { Session, SessionOptions } from "./session.ts";
import type { SnapshotOptions, SnapshotResult } from "./snapshot.ts";

/** One sandbox, whatever the driver. */

export interface SandboxSpec {
  /** Chosen by the caller: `[a-z0-9][a-z0-9-]{0,62}`, unused on this host (else AleError `id-taken`, `id-invalid`). Default: a fresh one. */
  readonly id?: string;
  /** A local image by name, e.g. "ale/base" or "python:3.11-slim". */
  readonly image: string;
  /** Written before any process starts, therefore without the cost or the races of an upload. */
  readonly files: readonly SandboxFile[];
  readonly limits: Limits;
  readonly network: NetworkPolicy;
  /** Created, owned by the user. Default: the image's, else `/`. */
  readonly workdir?: string;
  /** Whom sessions and programs run as: name or "uid[:gid]". Default: the image's user (`agent` for ale/base), else root. */
  readonly user?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Files and directories that are there at the start and that nothing in the sandbox can change, not even its root. */
  readonly readOnlyPaths?: readonly string[];
  /** The sandbox ends when nothing was asked of it for so long. Default: never before its lifetime. */
  readonly idleMs?: number;
  /** Kept in the sandbox's state file for people and for `ale rock ls`. */
  readonly labels?: Readonly<Record<string, string>>;
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

/** Counters since the start, and what is used now. A number that the host cannot give is null. */
export interface SandboxStats {
  readonly cpuMs: number | null;
  /** Periods in which the processor limit held the sandbox back. */
  readonly throttledPeriods: number | null;
  readonly memoryBytes: number | null;
  readonly memoryPeakBytes: number | null;
  /** Processes that the kernel ended at the memory limit. */
  readonly oomKills: number | null;
  readonly pids: number | null;
  /** Forks refused at the process limit. */
  readonly pidsRefused: number | null;
  readonly diskBytes: number | null;
  readonly diskInodes: number | null;
  readonly outputBytes: number;
  readonly uptimeMs: number;
  readonly idleMs: number;
}

export type EndReason = "destroyed" | "stopped" | "lifetime" | "idle" | "crashed" | "unresponsive";

export interface Sandbox extends AsyncDisposable {
  readonly id: string;
  readonly spec: SandboxSpec;
  /** The first session: the spec's user in the workdir. */
  readonly shell: Session;
  readonly files: SandboxFiles;
  /** undefined while it runs. */
  readonly endReason: EndReason | undefined;
  /** Resolves when it has ended, for whatever reason. Never rejects. */
  readonly ended: Promise<EndReason>;
  /** Another shell, independent of the first. */
  openSession(options?: SessionOptions, signal?: AbortSignal): Promise<Session>;
  /** Runs a program that shares nothing with the shells, and collects its output. This is what the verifier uses. */
  exec(request: RunRequest, signal?: AbortSignal): Promise<ExecResult>;
  /** Starts a program and streams. Throws an AleError `exec-failed` where it cannot be started. */
  start(request: StartRequest, signal?: AbortSignal): Promise<Process>;
  /** Connects to a TCP port on the sandbox's loopback. Throws an AleError `connect-failed`. */
  connect(port: number, signal?: AbortSignal): Promise<Connection>;
  /** Safe against symbolic links planted inside the sandbox: none is followed. */
  writeFiles(files: readonly SandboxFile[], signal?: AbortSignal): Promise<Result<void, FileError>>;
  /** Follows no link. */
  readFile(
    path: string,
    options?: { readonly maxBytes?: number },
    signal?: AbortSignal,
  ): Promise<Result<Uint8Array, FileError>>;
  /** State of some paths, read from outside without disturbing it (a fingerprint never counts as a read). */
  fingerprint(paths: readonly string[], signal?: AbortSignal): Promise<readonly Fingerprint[]>;
  /** Ends every process of the sandbox except its init: what the agent left running must not see the verifier. */
  killAgentProcesses(signal?: AbortSignal): Promise<void>;
  stats(): Promise<SandboxStats>;
  snapshot(options?: SnapshotOptions, signal?: AbortSignal): Promise<SnapshotResult>;
  /** Goes back to a snapshot of the same image. Its processes are lost; id, limits and labels stay. */
  revert(snapshot: string, signal?: AbortSignal): Promise<void>;
  /** Ends everything and removes every trace on the host. Safe to call twice. */
  destroy(): Promise<void>;
}
