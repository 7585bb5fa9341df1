import {
  err,
  NetworkChange,
  type Result,
  type SandboxFile,
  type Telemetry,
  type TelemetrySource,
} from "@ale/core";
import { fingerprintOf } from "../files/fingerprint.ts";
import type { Access } from "../files/handle.ts";
import { TreeFiles } from "../files/sandbox-files.ts";
import type { FileError, SandboxFiles } from "../port/files.ts";
import type { NetworkChangeOptions, NetworkUse } from "../port/network.ts";
import type { Connection, ExecResult, Process, RunRequest, StartRequest } from "../port/process.ts";
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
import type { RunningContainer } from "./container.ts";
import type { Shells } from "./container-host.ts";
import { frozen, gone, InitClient } from "./init-client.ts";
import { observed } from "./observed.ts";
import type { OciSession } from "./oci-session.ts";
import { Programs } from "./programs.ts";
import { ownName, type Settings, type SettingsRequest, settingsFor } from "./settings.ts";
import type { ShellState } from "./shell-state.ts";

/** One sandbox as its users see it: requests to its PID 1, and files reached from outside. */

const DEFAULT_MAX_READ = 16 * 2 ** 20;

export class OciSandbox implements Sandbox {
  readonly id: string;
  readonly shell: OciSession;
  readonly files: SandboxFiles;
  #container: RunningContainer;
  readonly #programs: Programs;

  /** `states`: sessions to begin with, as they were elsewhere. */
  constructor(container: RunningContainer, spec: SandboxSpec, states: readonly ShellState[] = []) {
    this.id = container.id;
    this.#container = container;
    this.#programs = new Programs(
      new InitClient(container),
      spec,
      (request) => this.#settings(request),
      states,
    );
    this.shell = this.#programs.shell;
    this.files = new TreeFiles(() => this.#access(), ownName({ spec, config: container.state.image.config }));
  }

  async #access(): Promise<Access | undefined> {
    if (this.#container.settled !== undefined) await this.#container.settled;
    return this.#container.ended ? undefined : this.#container;
  }

  #settings(request: SettingsRequest): Settings {
    const { state, tree, ended } = this.#container;
    try {
      return settingsFor({ spec: this.spec, config: state.image.config, files: tree }, request);
    } catch (reason) {
      throw ended ? gone(this.id) : reason;
    }
  }

  get spec(): SandboxSpec {
    return this.#container.spec;
  }

  /** In which it lives now. For its driver. */
  get container(): RunningContainer {
    return this.#container;
  }

  /** One of its open sessions, the first among them. */
  session(id: string): Session | undefined {
    return this.#programs.session(id);
  }

  /** What its sessions are, those in which something runs excepted. To be asked before the container ends. */
  captureShells(): Promise<readonly ShellState[]> {
    return this.#container.frozen ? Promise.resolve([]) : this.#programs.captureShells();
  }

  /** The sandbox goes on in another container. Sessions without a state begin anew. */
  resume(container: RunningContainer, states: readonly ShellState[]): void {
    this.#container = container;
    this.#programs.resume(container, states);
  }

  /** Makes PID 1 and the first shell ready, so that the first command costs what every other costs. For pools: it takes about 2 MiB. */
  warm(): Promise<void> {
    return this.#programs.shell.warm();
  }

  openSession(options?: SessionOptions, signal?: AbortSignal): Promise<Session> {
    return this.#programs.openSession(options, signal);
  }

  exec(request: RunRequest, signal?: AbortSignal): Promise<ExecResult> {
    return this.#programs.exec(request, signal);
  }

  start(request: StartRequest, signal?: AbortSignal): Promise<Process> {
    return this.#programs.start(request, signal);
  }

  get endReason(): EndReason | undefined {
    return this.#container.endReason;
  }

  get ended(): Promise<EndReason> {
    return this.#container.whenEnded;
  }

  connect(port: number, signal?: AbortSignal): Promise<Connection> {
    return this.#programs.connect(port, signal);
  }

  async stats(): Promise<SandboxStats> {
    await this.#container.settled;
    if (this.#container.ended) throw gone(this.id);
    return this.#container.stats();
  }

  onTelemetry(
    listener: (record: Telemetry) => void,
    options: { readonly sources?: readonly TelemetrySource[] } = {},
  ): Disposable {
    const sandbox = observed(this.id, () => this.#container);
    return this.#container.owner.telemetry.listen(sandbox, listener, options.sources);
  }

  drainTelemetry(): Promise<void> {
    return this.#container.owner.telemetry.drain(this.id);
  }

  freeze({ hold = false }: FreezeOptions = {}): Promise<void> {
    return this.#container.freeze(hold);
  }

  thaw(): Promise<void> {
    return this.#container.thaw();
  }

  async hold(maxMs: number): Promise<Hold> {
    if (this.#container.ended) throw gone(this.id);
    return this.#container.hold(maxMs);
  }

  async snapshot(options?: SnapshotOptions, signal?: AbortSignal): Promise<SnapshotResult> {
    if (this.#container.frozen && options?.processes !== "keep") throw frozen(this.id);
    return this.#container.owner.snapshot(this.#container, this.#shells, options, signal);
  }

  async revert(snapshot: string, signal?: AbortSignal): Promise<void> {
    if (this.#container.frozen) throw frozen(this.id);
    return this.#container.owner.revert(this.#container, this.#shells, snapshot, signal);
  }

  readonly #shells: Shells = {
    capture: () => this.captureShells(),
    resume: (states) => this.resume(this.#container, states),
  };

  killAgentProcesses(): Promise<void> {
    return this.#programs.killAgentProcesses();
  }

  async writeFiles(files: readonly SandboxFile[]): Promise<Result<void, FileError>> {
    await this.#container.settled;
    return this.#container.owner.telemetry.unseen(this.id, async () => this.#writeFiles(files));
  }

  #writeFiles(files: readonly SandboxFile[]): Result<void, FileError> {
    for (const file of files) {
      if (this.#container.ended) return err({ type: "sandbox-gone", path: file.path });
      const written = this.#container.tree.write(file);
      if (!written.ok) return written;
    }
    return { ok: true, value: undefined };
  }

  async readFile(
    path: string,
    options: { readonly maxBytes?: number } = {},
  ): Promise<Result<Uint8Array, FileError>> {
    await this.#container.settled;
    if (this.#container.ended) return err({ type: "sandbox-gone", path });
    const { tree, reads } = this.#container;
    return reads.unseen(() => tree.read(path, options.maxBytes ?? DEFAULT_MAX_READ));
  }

  async fingerprint(paths: readonly string[]): Promise<readonly Fingerprint[]> {
    await this.#container.settled;
    if (this.#container.ended) throw gone(this.id);
    const { tree, reads } = this.#container;
    const planted = new Set(this.spec.files.map((file) => file.path));
    const found = reads.unseen(() => paths.map((path) => fingerprintOf(tree, path, planted)));
    return found.map((one) => ({ ...one, wasRead: reads.wasRead(this.id, one.path) ?? one.wasRead }));
  }

  async setNetwork(
    change: NetworkChange,
    options: NetworkChangeOptions = {},
    signal?: AbortSignal,
  ): Promise<void> {
    signal?.throwIfAborted();
    await this.#container.setNetwork(NetworkChange.parse(change), options);
  }

  async networkUse(): Promise<NetworkUse> {
    return this.#container.networkUse;
  }

  destroy(): Promise<void> {
    return this.#container.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}
