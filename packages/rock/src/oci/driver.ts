import { randomBytes } from "node:crypto";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { ReadWatch } from "../files/read-watch.ts";
import { missingControllers, probeCgroups } from "../host/cgroup.ts";
import { deniedCallsAreLogged } from "../host/denied-calls.ts";
import { defaultHome } from "../host/home.ts";
import { type IdRangeOptions, IdRanges } from "../host/id-ranges.ts";
import { Limiter } from "../host/limiter.ts";
import { removeTreeAside } from "../host/mounts.ts";
import { findRuntime, logsDenied, type Runtime, type RuntimeName, refusesHybrid } from "../host/runtime.ts";
import { isSupportedMachine } from "../host/syscalls.ts";
import { findTool } from "../host/tools.ts";
import { resolveImage } from "../image/image.ts";
import type { LocalImage } from "../image/local-image.ts";
import { ensureToolbox, mountToolbox } from "../inside/toolbox.ts";
import type { Capabilities } from "../port/capabilities.ts";
import type { Pool, ReapReport, SandboxDriver } from "../port/driver.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { ForkOptions } from "../port/snapshot.ts";
import type { Snapshots } from "../port/snapshots.ts";
import { OciSnapshots } from "../snapshot/oci-snapshots.ts";
import { type SnapshotRecord, SnapshotStore } from "../snapshot/snapshot-store.ts";
import { capacityOf, refuseOversized } from "./capacity.ts";
import { type Host, type Owner, RunningContainer } from "./container.ts";
import { type DeniedCall, DeniedCalls } from "./denied-calls.ts";
import { Launcher } from "./launcher.ts";
import { copyLayer } from "./layer-copy.ts";
import { LayerStore } from "./layer-store.ts";
import { whyNotMapped } from "./mapping-probe.ts";
import { notYet } from "./not-yet.ts";
import { OciSandbox } from "./oci-sandbox.ts";
import { reapDead } from "./reap.ts";
import { claimId, freshSandboxId } from "./sandbox-id.ts";
import { type ShellState, withEnvironment } from "./shell-state.ts";
import { createSandboxState, createSpace, type Stack } from "./state.ts";
import { UserNamespaces } from "./user-namespaces.ts";

/** Sandboxes as OCI containers on overlayfs, run by crun without a daemon. Owns every sandbox it made. */

export interface OciDriverOptions {
  /** Where images and the state of sandboxes lie. Default: $ALE_HOME, else ~/.ale. */
  readonly home?: string;
  /** Sandboxes started at the same time. Default: the number of processors. */
  readonly concurrency?: number;
  /** Default: the first of crun and runc that runs here. */
  readonly runtime?: RuntimeName;
  /** Whether the kernel logs system calls that a sandbox's filter refuses. Default: `log`. */
  readonly deniedCalls?: "log" | "off";
  /**
   * Most bytes that the layers of snapshots may take together, those in memory (of sandboxes whose disk fits into half of their memory)
   * among them; no sandbox's memory limit counts them. Default: half of the host's memory.
   */
  readonly snapshotBytes?: number;
  /** `auto`: sandboxes have users of their own where the host can do that. `off`: root in a sandbox is root of the host, kept in by its other walls. */
  readonly userns?: "auto" | "off";
  /** Numbers of the host that sandboxes' users may have. Default: 251,658,240 from 1,879,048,192 on. */
  readonly idRange?: IdRangeOptions;
}

/** How a new sandbox begins. */
interface Beginning {
  readonly stack: Stack;
  readonly spec: SandboxSpec;
  /** The one whose layers the stack has; without one the spec's files are planted. */
  readonly snapshot: string | null;
  readonly states: readonly ShellState[];
}

export { defaultHome };

export class OciDriver implements SandboxDriver {
  readonly home: string;
  readonly #limiter: Limiter;
  readonly #creating = new Set<Promise<Sandbox>>();
  readonly #running = new Map<string, RunningContainer>();
  readonly #sandboxes = new Map<string, OciSandbox>();
  #host: Promise<Host> | undefined;
  #space: string | undefined;
  readonly #reads = new ReadWatch();
  #launcher: Launcher | undefined;
  #users: UserNamespaces | undefined;
  /** Why sandboxes have no users of their own. */
  #usersMissing: string | undefined;
  #snapshots: OciSnapshots | undefined;
  readonly #options: OciDriverOptions;
  readonly #denied = new DeniedCalls(() => this.#running.values());
  #logged: Promise<boolean> | false | undefined;
  #closed = false;

  constructor(options: OciDriverOptions = {}) {
    this.home = options.home ?? defaultHome();
    this.#options = options;
    this.#limiter = new Limiter(options.concurrency ?? availableParallelism());
  }

  async capabilities(): Promise<Capabilities> {
    const { cgroups, runtime, logDenied } = await this.#ready();
    this.#logged ??= logDenied
      ? deniedCallsAreLogged(requireTool("perl", "tool-missing", "perl-base"))
      : false;
    const logged = await this.#logged;
    return {
      driver: "oci",
      runtime: `${runtime.name} ${runtime.version}`,
      rootless: false,
      cgroup: cgroups.kind,
      userns: this.#users !== undefined,
      idmap: this.#users !== undefined,
      enforces: { cpu: true, memory: true, pids: true, disk: true },
      quota: ["tmpfs", "loop"],
      network: ["none"],
      trace: logged ? ["kernel-log"] : [],
      checkpoint: "layers",
      weaker: [
        ...(this.#usersMissing === undefined ? [] : [{ what: "userns", why: this.#usersMissing }]),
        ...(logged ? [] : [{ what: "trace", why: whyNotLogged(runtime, logDenied) }]),
      ],
    };
  }

  /**
   * Tells of system calls that filters of sandboxes of this driver refuse, where `capabilities().trace` has `kernel-log`. The kernel drops
   * what comes too fast.
   */
  onDeniedCall(listener: (call: DeniedCall) => void): Disposable {
    return this.#denied.listen(listener);
  }

  async create(spec: SandboxSpec, signal?: AbortSignal): Promise<OciSandbox> {
    return this.createFrom(() => resolveImage(this.home, spec.image), spec, signal);
  }

  /** From an image that needs no name: what an image builder has between two steps. `spec.image` is only told, not looked up. */
  async createFrom(
    image: LocalImage | (() => LocalImage),
    spec: SandboxSpec,
    signal?: AbortSignal,
  ): Promise<OciSandbox> {
    return this.#tracked(() => this.#create(image, spec, signal), signal);
  }

  async #tracked<T extends Sandbox>(make: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const creation = this.#limiter.run(make, signal);
    this.#creating.add(creation);
    try {
      return await creation;
    } finally {
      this.#creating.delete(creation);
    }
  }

  async #create(
    imageOrName: LocalImage | (() => LocalImage),
    spec: SandboxSpec,
    signal?: AbortSignal,
  ): Promise<OciSandbox> {
    this.#refuseIfOver(signal);
    const host = await this.#ready();
    refuseOversized(spec.limits, capacityOf(host.space));
    const image = typeof imageOrName === "function" ? imageOrName() : imageOrName;
    const { files: _, ...remembered } = spec;
    const stack = { image, spec: remembered, lower: [] };
    return this.#startNew(host, { stack, spec, snapshot: null, states: [] }, signal);
  }

  async #startNew(host: Host, beginning: Beginning, signal?: AbortSignal): Promise<OciSandbox> {
    const { stack, spec, snapshot, states } = beginning;
    const id = spec.id === undefined ? freshSandboxId() : claimId(spec.id, this.home, host.cgroups);
    const layer = host.layers.fresh().id;
    const state = { ...stack, id, createdAtMs: Date.now(), layer, snapshot };
    createSandboxState(host.space, state);
    const container = new RunningContainer(host, state, spec, this.#owner);
    await container.start({ fresh: true, plants: snapshot === null });
    return this.#present(container, states, signal);
  }

  async #present(
    container: RunningContainer,
    states: readonly ShellState[],
    signal?: AbortSignal,
  ): Promise<OciSandbox> {
    try {
      this.#refuseIfOver(signal);
    } catch (reason) {
      await container.destroy();
      throw reason;
    }
    const sandbox = new OciSandbox(container, container.spec, states);
    // It may have crashed meanwhile.
    if (this.#running.has(container.id)) this.#sandboxes.set(container.id, sandbox);
    return sandbox;
  }

  readonly #owner: Owner = {
    add: (container) => this.#running.set(container.id, container),
    remove: (id) => {
      this.#running.delete(id);
      this.#sandboxes.delete(id);
    },
    snapshot: (...request) => this.#snapshots!.take(...request),
    revert: (...request) => this.#snapshots!.revert(...request),
  };

  /**
   * Ends a sandbox and leaves what it wrote above its image in `target`, a directory that must not exist, as overlayfs has it: removed
   * paths are devices 0:0, replaced directories carry the attribute trusted.overlay.opaque. Throws an AleError, then `target` is not left.
   */
  async takeLayer(id: string, target: string): Promise<void> {
    const container = this.#running.get(id);
    if (container === undefined)
      throw new AleError("sandbox-gone", `sandbox ${id} has ended`, { next: "create a new sandbox" });
    await container.destroy("destroyed", (upper) => copyLayer(upper, target));
  }

  #refuseIfOver(signal?: AbortSignal): void {
    signal?.throwIfAborted();
    if (this.#closed) throw new AleError("driver-closed", "the sandbox driver has been closed");
  }

  async #taken(): Promise<OciSnapshots> {
    await this.#ready();
    return this.#snapshots!;
  }

  readonly snapshots: Snapshots = {
    list: async () => (await this.#taken()).list(),
    get: async (id) => (await this.#taken()).get(id),
    remove: async (id) => (await this.#taken()).remove(id),
    fork: async (id, count, options, signal) => (await this.#taken()).fork(id, count, options, signal),
    diff: async (from, to) => (await this.#taken()).diff(from, to),
  };

  #createAbove(
    host: Host,
    record: SnapshotRecord,
    options: ForkOptions,
    signal?: AbortSignal,
  ): Promise<Sandbox> {
    const { id: _, ...inherited } = record.spec;
    const spec = {
      ...inherited,
      files: [],
      limits: options.limits ?? inherited.limits,
      network: options.network ?? inherited.network,
      env: { ...inherited.env, ...options.env },
      labels: { ...inherited.labels, ...options.labels },
    };
    const { image, lower } = record;
    const states = withEnvironment(record.shells, options.env ?? {});
    const make = (): Promise<Sandbox> => {
      this.#refuseIfOver(signal);
      refuseOversized(spec.limits, capacityOf(host.space));
      return this.#startNew(
        host,
        { stack: { image, lower, spec }, spec, snapshot: record.id, states },
        signal,
      );
    };
    return this.#tracked(make, signal);
  }

  /** What a snapshot consists of: an image, and directories above it, the topmost first. They are there as long as the snapshot is. */
  async snapshotLayers(id: string): Promise<{ readonly image: string; readonly layers: readonly string[] }> {
    return (await this.#taken()).layersOf(id);
  }

  pool(): Pool {
    throw notYet("pools");
  }

  list(): readonly Sandbox[] {
    return [...this.#sandboxes.values()].filter((sandbox) => sandbox.endReason === undefined);
  }

  async reap(): Promise<ReapReport> {
    requireRoot();
    return reapDead(this.home, probeCgroups());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#creating);
    await Promise.all([...this.#running.values()].map((container) => container.destroy()));
    this.#denied[Symbol.dispose]();
    this.#users?.[Symbol.dispose]();
    this.#launcher?.close();
    this.#reads.close();
    if (this.#space !== undefined) await removeTreeAside(this.#space);
    this.#space = undefined;
  }

  #ready(): Promise<Host> {
    this.#host ??= this.#prepare();
    return this.#host;
  }

  async #prepare(): Promise<Host> {
    if (process.platform !== "linux" || !isSupportedMachine())
      throw new AleError("host-unsupported", `no sandboxes on ${process.platform}/${process.arch}`, {
        next: "use Linux on x86-64 or arm64 (on macOS: inside a Linux virtual machine)",
      });
    requireRoot();
    const runtime = requireRuntime(this.#options.runtime);
    const perl = requireTool("perl", "tool-missing", "perl-base");
    const cgroups = probeCgroups();
    const missing = missingControllers(cgroups);
    if (missing.length > 0)
      throw new AleError(
        "cgroup-missing",
        `limits cannot be enforced: no ${missing.join(", ")} control group`,
        {
          next: "run on a host, or in a container, with a writable /sys/fs/cgroup that has these controllers",
        },
      );
    await reapDead(this.home, cgroups);
    const space = createSpace(this.home, randomBytes(3).toString("hex")).directory;
    this.#space = space;
    this.#launcher = await Launcher.open({
      perl,
      runtime: runtime.path,
      space,
      unified: refusesHybrid(runtime) ? cgroups.unified : undefined,
    });
    await this.#prepareUsers(space, this.#launcher);
    const layers = new LayerStore(space);
    const [reads, launcher] = [this.#reads, this.#launcher];
    const host: Host = {
      space,
      durable: false,
      runtime,
      cgroups,
      reads,
      launcher,
      layers,
      users: this.#users,
      logDenied: this.#options.deniedCalls !== "off" && logsDenied(runtime),
      toolbox: mountToolbox(ensureToolbox(this.home), join(space, ".inside")),
    };
    this.#snapshots = new OciSnapshots({
      host,
      store: new SnapshotStore(space, layers),
      budgetBytes: this.#options.snapshotBytes ?? totalmem() / 2,
      createAbove: (...request) => this.#createAbove(host, ...request),
    });
    return host;
  }

  async #prepareUsers(space: string, launcher: Launcher): Promise<void> {
    const users = new UserNamespaces(launcher, new IdRanges(this.#options.idRange));
    this.#usersMissing =
      this.#options.userns === "off"
        ? "switched off by the driver's option `userns`"
        : await whyNotMapped(space, join(this.home, "images"), users);
    if (this.#usersMissing === undefined) this.#users = users;
    else users[Symbol.dispose]();
  }
}

function whyNotLogged(runtime: Runtime, wanted: boolean): string {
  if (wanted)
    return "refused calls do not appear in /dev/kmsg: auditd takes them, or the kernel has no audit";
  return logsDenied(runtime)
    ? "switched off by the driver's option `deniedCalls`"
    : `${runtime.name} ${runtime.version} cannot have them logged; crun can (apt install crun)`;
}

function requireRuntime(wanted?: RuntimeName): Runtime {
  const runtime = findRuntime(wanted);
  if (runtime === undefined)
    throw new AleError(
      "runtime-missing",
      wanted === undefined ? "neither crun nor runc runs here" : `${wanted} does not run here`,
      {
        next: `apt install ${wanted ?? "crun"}`,
      },
    );
  return runtime;
}

function requireTool(name: string, code: string, debianPackage: string): string {
  const tool = findTool(name);
  if (tool === undefined)
    throw new AleError(code, `${name} is not installed`, { next: `apt install ${debianPackage}` });
  return tool;
}

function requireRoot(): void {
  if (process.getuid?.() !== 0)
    throw new AleError("need-root", "sandboxes need root on this host", {
      next: "run the same command with sudo",
    });
}

export function openOciDriver(options: OciDriverOptions = {}): OciDriver {
  return new OciDriver(options);
}
