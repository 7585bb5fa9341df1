import type { NetworkChange, SandboxFile, Telemetry, TelemetrySource } from "@ale/core";
import { AleError, type Result } from "@ale/core/result";
import type { FileError } from "../port/files.ts";
import type { NetworkChangeOptions, NetworkUse } from "../port/network.ts";
import type {
  Connection,
  ExecResult,
  Process,
  RunRequest,
  StartRequest,
  TerminalSize,
} from "../port/process.ts";
import type {
  EndReason,
  Fingerprint,
  FreezeOptions,
  Hold,
  Sandbox,
  SandboxSpec,
  SandboxStats,
} from "../port/sandbox.ts";
import type { Session, SessionOptions } from "../port/session.ts";
import type { SnapshotOptions, SnapshotResult } from "../port/snapshot.ts";
import type { NetworkView, SandboxView } from "../wire/schemas.ts";
import { connectionOver } from "./remote-connection.ts";
import { caught, RemoteFiles } from "./remote-files.ts";
import { RemoteProcess } from "./remote-process.ts";
import { RemoteSession } from "./remote-session.ts";
import { RemoteTelemetry } from "./remote-telemetry.ts";
import type { Call, Transport } from "./transport.ts";

/** A sandbox on a server, to be used as a local one is. */
export class RemoteSandbox implements Sandbox {
  readonly id: string;
  readonly shell: RemoteSession;
  readonly files: RemoteFiles;
  readonly #transport: Transport;
  readonly #path: string;
  readonly #telemetry: RemoteTelemetry;
  #spec: SandboxSpec;
  #ended: Promise<EndReason> | undefined;
  #endReason: EndReason | undefined;
  #destroyed: Promise<void> | undefined;

  constructor(transport: Transport, id: string, spec: SandboxSpec) {
    this.id = id;
    this.#spec = spec;
    this.#transport = transport;
    this.#path = `/sandboxes/${id}`;
    this.shell = new RemoteSession(transport, id, "default");
    this.files = new RemoteFiles(transport, id);
    this.#telemetry = new RemoteTelemetry(transport, this.id, this.#path);
  }

  /** As far as this process has heard: another one may have changed the network policy. */
  get spec(): SandboxSpec {
    return this.#spec;
  }

  /** As far as this process has heard: it hears of an end once `ended` was asked for, or something was refused. */
  get endReason(): EndReason | undefined {
    return this.#endReason;
  }

  get ended(): Promise<EndReason> {
    this.#ended ??= this.#awaitEnd();
    return this.#ended;
  }

  async openSession(options: SessionOptions = {}, signal?: AbortSignal): Promise<Session> {
    const { name } = await this.#json<{ name: string }>("POST", "/sessions", { json: options }, signal);
    return new RemoteSession(this.#transport, this.id, name);
  }

  /** A session that is open already, by its name. */
  session(name: string): Session {
    return new RemoteSession(this.#transport, this.id, name);
  }

  exec(request: RunRequest, signal?: AbortSignal): Promise<ExecResult> {
    const { stdin, ...rest } = request;
    const input =
      stdin === undefined || typeof stdin === "string"
        ? { stdin }
        : { stdinBase64: Buffer.from(stdin).toString("base64") };
    return this.#json("POST", "/exec", { json: { ...rest, ...input } }, signal);
  }

  async start(request: StartRequest, signal?: AbortSignal): Promise<Process> {
    const peer = await this.#transport.socket(`${this.#path}/exec/stream`, {}, signal);
    return RemoteProcess.start(peer, request, signal);
  }

  /** A login shell in a terminal. */
  async terminal(
    size: TerminalSize,
    options: { readonly user?: string; readonly cwd?: string } = {},
    signal?: AbortSignal,
  ): Promise<Process> {
    const peer = await this.#transport.socket(`${this.#path}/terminal`, { ...size, ...options }, signal);
    return RemoteProcess.attach(peer, true, signal);
  }

  async connect(port: number, signal?: AbortSignal): Promise<Connection> {
    const peer = await this.#transport.socket(`${this.#path}/ports/${port}/relay`, {}, signal);
    return connectionOver(peer);
  }

  writeFiles(files: readonly SandboxFile[], signal?: AbortSignal): Promise<Result<void, FileError>> {
    return caught(files[0]?.path ?? "/", () => this.#json("POST", "/files", { json: { files } }, signal));
  }

  readFile(
    path: string,
    options: { readonly maxBytes?: number } = {},
    signal?: AbortSignal,
  ): Promise<Result<Uint8Array, FileError>> {
    const query = { path, links: "refuse", ...options };
    return caught(path, async () => {
      const call = this.#call("GET", "/files/content", { query }, signal);
      return new Uint8Array(await this.#transport.bytes(call));
    });
  }

  async fingerprint(paths: readonly string[], signal?: AbortSignal): Promise<readonly Fingerprint[]> {
    const call = { json: { paths } };
    const answer = await this.#json<{ fingerprints: Fingerprint[] }>(
      "POST",
      "/files/fingerprints",
      call,
      signal,
    );
    return answer.fingerprints;
  }

  async setNetwork(
    change: NetworkChange,
    options: NetworkChangeOptions = {},
    signal?: AbortSignal,
  ): Promise<void> {
    const { network } = await this.#json<SandboxView>(
      "PUT",
      "/network",
      { json: { network: change, ...options } },
      signal,
    );
    this.#spec = { ...this.#spec, network };
  }

  async networkUse(signal?: AbortSignal): Promise<NetworkUse> {
    const { used } = await this.#json<NetworkView>("GET", "/network", {}, signal);
    if (used === null) throw new AleError("sandbox-not-running", `${this.id} does not run`);
    return used;
  }

  killAgentProcesses(signal?: AbortSignal): Promise<void> {
    return this.#json("POST", "/kill-processes", {}, signal);
  }

  stats(): Promise<SandboxStats> {
    return this.#json("GET", "/stats", {});
  }

  /**
   * What happens before the server has heard of the first listener is not told: `drainTelemetry` waits for that too. The server collects all
   * that it can, whatever `sources` are listened to. A connection that broke is made again for a minute; records that were lost by it are told as
   * one `telemetry.gap`.
   */
  onTelemetry(
    listener: (record: Telemetry) => void,
    { sources }: { readonly sources?: readonly TelemetrySource[] } = {},
  ): Disposable {
    if (sources === undefined) return this.#telemetry.listen(listener);
    const wanted = new Set(sources);
    return this.#telemetry.listen((record) => {
      // What was lost may have been of any source.
      if (wanted.has(record.source) || record.kind === "telemetry.gap") listener(record);
    });
  }

  drainTelemetry(): Promise<void> {
    return this.#telemetry.drain();
  }

  async freeze({ hold = false }: FreezeOptions = {}): Promise<void> {
    if (hold)
      throw new AleError("hold-refused", "how long its sandboxes live is the server's to say", {
        next: "freeze it without `hold`, and take a snapshot of it",
      });
    return this.#json("POST", "/freeze", {});
  }

  thaw(): Promise<void> {
    return this.#json("POST", "/thaw", {});
  }

  async hold(_maxMs: number, signal?: AbortSignal): Promise<Hold> {
    const { uptimeMs, idleMs } = await this.#json<SandboxStats>("GET", "/stats", {}, signal);
    const { limits, idleMs: mostIdleMs = Infinity } = this.#spec;
    const leftMs = Math.max(0, Math.min(limits.lifetimeMs - uptimeMs, mostIdleMs - idleMs));
    return { heldMs: 0, leftMs, [Symbol.dispose]: () => {} };
  }

  snapshot(options: SnapshotOptions = {}, signal?: AbortSignal): Promise<SnapshotResult> {
    return this.#json("POST", "/snapshots", { json: options }, signal);
  }

  revert(snapshot: string, signal?: AbortSignal): Promise<void> {
    return this.#json("POST", "/revert", { json: { snapshot } }, signal);
  }

  /** Ends its processes and keeps its files. */
  stop(signal?: AbortSignal): Promise<SandboxView> {
    return this.#json("POST", "/stop", {}, signal);
  }

  /** Where it fails it may be tried again. */
  destroy(): Promise<void> {
    this.#destroyed ??= this.#delete().catch((error: unknown) => {
      this.#destroyed = undefined;
      throw error;
    });
    return this.#destroyed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  async #delete(): Promise<void> {
    try {
      await this.#json("DELETE", "", {});
    } catch (error) {
      if (!(error instanceof AleError) || error.code !== "sandbox-unknown") throw error;
    }
    this.#endReason ??= "destroyed";
  }

  async #awaitEnd(): Promise<EndReason> {
    const query = { waitFor: ["stopped", "deleted", "failed"], timeoutMs: 60_000 };
    for (;;) {
      const view = await this.#view(query);
      if (view !== undefined && (view.state === "pending" || view.state === "running")) continue;
      this.#endReason ??= endReasonOf(view?.endReason ?? "destroyed");
      return this.#endReason;
    }
  }

  /** undefined: the server no longer knows it, or is no longer there. */
  async #view(query: Call["query"]): Promise<SandboxView | undefined> {
    try {
      return await this.#transport.json({
        method: "GET",
        path: this.#path,
        query: query ?? {},
        background: true,
      });
    } catch {
      return undefined;
    }
  }

  #json<T>(method: Call["method"], path: string, more: Partial<Call>, signal?: AbortSignal): Promise<T> {
    return this.#transport.json<T>(this.#call(method, path, more, signal));
  }

  #call(method: Call["method"], path: string, more: Partial<Call>, signal?: AbortSignal): Call {
    return { method, path: `${this.#path}${path}`, ...more, ...(signal === undefined ? {} : { signal }) };
  }
}

/** A crash of the server has no name of its own among the reasons of a local sandbox. */
const endReasonOf = (reason: string): EndReason => (reason === "lost" ? "crashed" : (reason as EndReason));

export function specOf(view: SandboxView): SandboxSpec {
  const { image, limits, network, labels, workdir, user, idleMs } = view;
  return {
    id: view.id,
    image,
    files: [],
    limits,
    network,
    labels,
    ...(workdir === null ? {} : { workdir }),
    ...(user === null ? {} : { user }),
    ...(idleMs === null ? {} : { idleMs }),
  };
}
