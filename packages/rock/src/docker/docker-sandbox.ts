import { AleError, err, type NetworkChange, type Result, type SandboxFile } from "@ale/core";
import { frozen, gone, InitClient } from "../oci/init-client.ts";
import type { OciSession } from "../oci/oci-session.ts";
import { Programs } from "../oci/programs.ts";
import { ownDirectory, type Settings, type SettingsRequest } from "../oci/settings.ts";
import type { ShellState } from "../oci/shell-state.ts";
import type { FileError, SandboxFiles } from "../port/files.ts";
import { type NetworkUse, refuseNetwork } from "../port/network.ts";
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
import { NETWORK_MODES } from "./capability-record.ts";
import type { DockerContainer } from "./docker-container.ts";
import { DockerFiles } from "./docker-files.ts";
import { DockerUsers } from "./docker-users.ts";
import type { EngineImage } from "./engine-images.ts";

/** One sandbox in a container of an engine, as its users see it. */

/** Where a sandbox began: its files, and what its sessions were. */
export interface Beginning {
  readonly image: EngineImage;
  readonly shells: readonly ShellState[];
}

/** What the driver does for its sandboxes. */
export interface SandboxHome {
  beginningOf(snapshot: string, current: EngineImage): Promise<Beginning>;
  /** Another container for the same sandbox. The old one is gone then. */
  restart(container: DockerContainer, spec: SandboxSpec, image: EngineImage): Promise<DockerContainer>;
  snapshot(
    container: DockerContainer,
    spec: SandboxSpec,
    options: SnapshotOptions,
    shells: readonly ShellState[],
  ): Promise<SnapshotResult>;
}

export class DockerSandbox implements Sandbox {
  readonly id: string;
  readonly spec: SandboxSpec;
  readonly shell: OciSession;
  readonly ended: Promise<EndReason>;
  readonly #home: SandboxHome;
  readonly #files: DockerFiles;
  readonly #users: DockerUsers;
  readonly #programs: Programs;
  readonly #settleEnded: (reason: EndReason) => void;
  #container: DockerContainer;
  #moving: DockerContainer | undefined;
  #endReason: EndReason | undefined;

  /** Puts the spec's workdir and files in place before anything else runs. Throws an AleError. */
  static async inhabit(
    container: DockerContainer,
    spec: SandboxSpec,
    home: SandboxHome,
    shells: readonly ShellState[],
  ): Promise<DockerSandbox> {
    const { config } = container.image;
    const users = new DockerUsers(spec, config);
    const client = new InitClient(container);
    const files = new DockerFiles(client, (user) => users.find(user, files));
    await users.load(files);
    await users.find(undefined, files);
    await furnish(files, spec, ownDirectory({ spec, config }));
    return new DockerSandbox(container, spec, home, { client, files, users, shells });
  }

  private constructor(
    container: DockerContainer,
    spec: SandboxSpec,
    home: SandboxHome,
    parts: {
      readonly client: InitClient;
      readonly files: DockerFiles;
      readonly users: DockerUsers;
      readonly shells: readonly ShellState[];
    },
  ) {
    this.id = container.id;
    this.spec = spec;
    this.#home = home;
    this.#files = parts.files;
    this.#users = parts.users;
    this.#container = container;
    const settings = (request: SettingsRequest): Settings => parts.users.settings(request);
    this.#programs = new Programs(parts.client, spec, settings, parts.shells);
    this.shell = this.#programs.shell;
    const { promise, resolve } = Promise.withResolvers<EndReason>();
    this.ended = promise;
    this.#settleEnded = resolve;
    this.#follow(container);
  }

  /** The sandbox ends with its container, unless it goes on in another one. */
  #follow(container: DockerContainer): void {
    void container.whenEnded.then((reason) => {
      if (this.#moving !== container && this.#container === container) this.#end(reason);
    });
  }

  #end(reason: EndReason): void {
    this.#endReason ??= reason;
    this.#settleEnded(this.#endReason);
  }

  get files(): SandboxFiles {
    return this.#files;
  }

  get endReason(): EndReason | undefined {
    return this.#endReason ?? (this.#moving === undefined ? this.#container.endReason : undefined);
  }

  async openSession(options: SessionOptions = {}, signal?: AbortSignal): Promise<Session> {
    await this.#users.find(options.user, this.#files);
    return this.#programs.openSession(options, signal);
  }

  async exec(request: RunRequest, signal?: AbortSignal): Promise<ExecResult> {
    await this.#users.find(request.user, this.#files);
    return this.#programs.exec(request, signal);
  }

  async start(request: StartRequest, signal?: AbortSignal): Promise<Process> {
    await this.#users.find(request.user, this.#files);
    return this.#programs.start(request, signal);
  }

  connect(port: number, signal?: AbortSignal): Promise<Connection> {
    return this.#programs.connect(port, signal);
  }

  killAgentProcesses(): Promise<void> {
    return this.#programs.killAgentProcesses();
  }

  async writeFiles(files: readonly SandboxFile[], signal?: AbortSignal): Promise<Result<void, FileError>> {
    if (this.#container.ended) return err({ type: "sandbox-gone", path: files[0]?.path ?? "/" });
    return refusedWhereFull(await this.#files.plant(files, false, signal));
  }

  async readFile(
    path: string,
    options: { readonly maxBytes?: number } = {},
    signal?: AbortSignal,
  ): Promise<Result<Uint8Array, FileError>> {
    if (this.#container.ended) return err({ type: "sandbox-gone", path });
    return this.#files.readStrictly(path, options.maxBytes, signal);
  }

  async fingerprint(paths: readonly string[], signal?: AbortSignal): Promise<readonly Fingerprint[]> {
    if (this.#container.ended) throw gone(this.id);
    return this.#files.fingerprint(paths, signal);
  }

  async stats(): Promise<SandboxStats> {
    if (this.#container.ended) throw gone(this.id);
    return this.#container.stats();
  }

  /** There is nothing here that could be told. */
  onTelemetry(): Disposable {
    return { [Symbol.dispose]: () => {} };
  }

  async drainTelemetry(): Promise<void> {}

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

  async snapshot(options: SnapshotOptions = {}, signal?: AbortSignal): Promise<SnapshotResult> {
    signal?.throwIfAborted();
    if (this.#container.ended) throw gone(this.id);
    const isFrozen = this.#container.frozen;
    if (isFrozen && options.processes !== "keep") throw frozen(this.id);
    using _busy = this.#container.activity.begin();
    const shells = isFrozen ? [] : await this.#programs.captureShells();
    return this.#home.snapshot(this.#container, this.spec, options, shells);
  }

  async revert(snapshot: string, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#container.ended) throw gone(this.id);
    if (this.#container.frozen) throw frozen(this.id);
    const old = this.#container;
    const { image, shells } = await this.#home.beginningOf(snapshot, old.image);
    // From here on the end of the old container is not the sandbox's.
    this.#moving = old;
    try {
      this.#container = await this.#home.restart(old, this.spec, image);
    } catch (reason) {
      this.#end("crashed");
      throw reason;
    } finally {
      this.#moving = undefined;
    }
    this.#follow(this.#container);
    this.#programs.resume(this.#container, shells);
    this.#files.forget();
    await this.#users.load(this.#files);
  }

  /** Without an interface it stays: an engine's own networks have no gateway of ours. */
  async setNetwork(change: NetworkChange): Promise<void> {
    refuseNetwork(NETWORK_MODES, change);
  }

  async networkUse(): Promise<NetworkUse> {
    return { sandbox: { bytesUp: 0, bytesDown: 0, connections: 0, requests: 0 }, hosts: {} };
  }

  destroy(): Promise<void> {
    return this.#container.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}

/** Engines put the host's name and resolvers there, which are nobody's business inside. */
const HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n";

async function furnish(files: DockerFiles, spec: SandboxSpec, workdir: string): Promise<void> {
  // Not every engine makes them; where they are not to be written, they hold nothing of the host either.
  await files.write("/etc/hosts", HOSTS, { user: "0:0" });
  if (workdir !== "/") {
    const made = await files.makeDirectory(workdir, { strict: true });
    if (!made.ok) throw unusable("workdir", workdir, made.error.type);
  }
  const planted = refusedWhereFull(await files.plant(spec.files, true));
  if (!planted.ok) throw unusable("file", planted.error.path, planted.error.type);
}

function refusedWhereFull(result: Result<void, FileError>): Result<void, FileError> {
  if (result.ok || result.error.type !== "disk-full") return result;
  throw new AleError("sandbox-disk-full", `no space left in the sandbox to write ${result.error.path}`, {
    next: "raise limits.diskBytes of the instance",
  });
}

function unusable(what: string, path: string, why: string): AleError {
  return new AleError("spec-invalid", `the ${what} ${path} cannot be put into the sandbox: ${why}`, {
    next: "use an absolute path without `..` and without symbolic links of the image on the way",
  });
}
