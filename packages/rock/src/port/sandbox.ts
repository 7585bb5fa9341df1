import type {
  Limits,
  NetworkChange,
  NetworkPolicy,
  Result,
  SandboxFile,
  Telemetry,
  TelemetrySource,
} from "@ale/core";
import type { FileError, SandboxFiles } from "./files.ts";
import type { NetworkChangeOptions, NetworkUse } from "./network.ts";
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

export interface FreezeOptions {
  /**
   * Neither its lifetime nor its idle time ends it until `thaw`, after which what was left of them counts on: it is evidence. A server does
   * not let its clients say so (`hold-refused`).
   */
  readonly hold?: boolean;
}

export interface Hold extends Disposable {
  /** How long its clocks stand still at most; 0 where they do not. */
  readonly heldMs: number;
  /** What is left after that until it ends by itself. */
  readonly leftMs: number;
}

export interface Sandbox extends AsyncDisposable {
  readonly id: string;
  /** What was asked for; `network` is the policy that it has now. */
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
  /**
   * Replaces the network policy, from the next connection on; open ones end with `endOpen`, and whenever the mode becomes `none`. Budgets that
   * the change does not name stay, and so does what was used of them, unless `resetBudgets`. Every change is told as `policy.change`. Throws an AleError `network-unsupported` where the driver cannot enforce it; then the sandbox has the policy
   * that it had.
   */
  setNetwork(change: NetworkChange, options?: NetworkChangeOptions, signal?: AbortSignal): Promise<void>;
  /** What it has used of its network budgets. */
  networkUse(signal?: AbortSignal): Promise<NetworkUse>;
  /** Ends every process of the sandbox except its init: what the agent left running must not see the verifier. */
  killAgentProcesses(signal?: AbortSignal): Promise<void>;
  stats(): Promise<SandboxStats>;
  /**
   * Tells what is seen to happen in and around the sandbox from now on: each record once, at most so many a second of each kind (what is left
   * out is counted in `suppressed`). Which sources there are, the driver's capabilities say. Nothing is collected while nobody listens. `sources`: only these; where nobody
   * listens to the others, they cost nothing.
   */
  onTelemetry(
    listener: (record: Telemetry) => void,
    options?: { readonly sources?: readonly TelemetrySource[] },
  ): Disposable;
  /** Resolves when everything that happened before the call has been told. */
  drainTelemetry(): Promise<void>;
  /**
   * Stops every process, PID 1 included, between two instructions, until `thaw`. Meanwhile whatever needs a process of the sandbox (exec,
   * sessions, connections) is refused with an AleError `sandbox-frozen`; files, stats, fingerprints, snapshots with `processes: "keep"` and
   * `destroy` work. What runs already goes on where it was. Throws an AleError `freeze-failed`; then it runs on.
   */
  freeze(options?: FreezeOptions): Promise<void>;
  /** Lets a frozen sandbox go on. */
  thaw(): Promise<void>;
  /**
   * Its lifetime and its idle time stand still until the result is disposed of, for `maxMs` and a day altogether at most: while somebody is
   * waited for who is not the agent. Then the lifetime goes on with what was left, and the idle time begins anew. Its programs run on. A
   * server does not let its clients do this: there nothing stands still.
   */
  hold(maxMs: number, signal?: AbortSignal): Promise<Hold>;
  snapshot(options?: SnapshotOptions, signal?: AbortSignal): Promise<SnapshotResult>;
  /** Goes back to a snapshot of the same image. Its processes are lost; id, limits and labels stay. */
  revert(snapshot: string, signal?: AbortSignal): Promise<void>;
  /** Ends everything and removes every trace on the host. Safe to call twice. */
  destroy(): Promise<void>;
}
