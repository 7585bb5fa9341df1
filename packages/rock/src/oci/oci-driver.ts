import { availableParallelism } from "node:os";
import { AleError, policyAfter, type Telemetry } from "@ale/core";
import { loseWanted, salvage } from "../evidence/salvage.ts";
import { probeCgroups } from "../host/cgroup.ts";
import { type DeniedTold, deniedCallsSource } from "../host/denied-calls.ts";
import { defaultHome } from "../host/home.ts";
import { Limiter } from "../host/limiter.ts";
import { resolveImage } from "../image/image.ts";
import type { LocalImage } from "../image/local-image.ts";
import { type PoolSource, SandboxPool } from "../pool/pool.ts";
import type { Capabilities } from "../port/capabilities.ts";
import type { Pool, PoolOptions, ReapReport, SandboxDriver } from "../port/driver.ts";
import type { StoppedSandbox } from "../port/durable.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { ForkOptions } from "../port/snapshot.ts";
import type { Snapshots } from "../port/snapshots.ts";
import type { Layers } from "../snapshot/commit.ts";
import { OciSnapshots } from "../snapshot/oci-snapshots.ts";
import type { SnapshotRecord } from "../snapshot/snapshot-store.ts";
import { TelemetryHub } from "../telemetry/hub.ts";
import { Tracer } from "../telemetry/tracer.ts";
import type { Lost } from "./adopt.ts";
import { capabilityRecord, refuseUnenforced } from "./capability-record.ts";
import { capacityOf, refuseOversized } from "./capacity.ts";
import { gone, type Owner, RunningContainer } from "./container.ts";
import type { Host } from "./container-host.ts";
import { type DeniedCall, DeniedCalls } from "./denied-calls.ts";
import { asDiskFull } from "./layer.ts";
import { copyLayer } from "./layer-copy.ts";
import { admitNetwork, ONLY_NONE } from "./network.ts";
import { OciSandbox } from "./oci-sandbox.ts";
import { type OpenHost, openHost, requireRoot, requireTool } from "./open-host.ts";
import type { OciDriverOptions } from "./options.ts";
import { reapDead } from "./reap.ts";
import { claimId, freshSandboxId } from "./sandbox-id.ts";
import { type ShellState, withEnvironment } from "./shell-state.ts";
import { createSandboxState, removeSandboxDirectory, type Stack } from "./state.ts";
import { removeStopped, startStopped, stoppedIn } from "./stopped.ts";
import { collectorsOf } from "./telemetry.ts";

/** Sandboxes as OCI containers on overlayfs, run by a runtime without a daemon. Owns every sandbox it made. */

/** How long the removal of a sandbox lets the creation of others go first. */
const LONGEST_WAY_MS = 250;

/** How a new sandbox begins. */
interface Beginning {
  readonly stack: Stack;
  readonly spec: SandboxSpec;
  /** The one whose layers the stack has; without one the spec's files are planted. */
  readonly snapshot: string | null;
  readonly states: readonly ShellState[];
  /** For a pool: its time does not count, and a crash forgets it, until it is handed over. */
  readonly waits?: boolean;
}

interface Opened extends OpenHost {
  readonly taken: OciSnapshots;
}

export class OciDriver implements SandboxDriver {
  readonly home: string;
  readonly #options: OciDriverOptions;
  readonly #concurrency: number;
  readonly #limiter: Limiter;
  readonly #creating = new Set<Promise<Sandbox>>();
  readonly #running = new Map<string, RunningContainer>();
  readonly #sandboxes = new Map<string, OciSandbox>();
  readonly #pools = new Set<Pool>();
  readonly #denied = new DeniedCalls(() => this.#running.values());
  readonly #tracer = new Tracer();
  readonly #telemetry = new TelemetryHub(() => collectorsOf(this.#opened!.host, this.#denied, this.#tracer));
  #opening: Promise<Opened> | undefined;
  /** Set as soon as there can be a sandbox. */
  #opened: Opened | undefined;
  #denials: Promise<DeniedTold["source"] | undefined> | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: OciDriverOptions = {}) {
    this.home = options.home ?? defaultHome();
    this.#options = options;
    this.#concurrency = options.concurrency ?? availableParallelism();
    this.#limiter = new Limiter(this.#concurrency);
  }

  async capabilities(): Promise<Capabilities> {
    const { host, usersMissing } = await this.#ready();
    this.#denials ??= host.logDenied
      ? deniedCallsSource(requireTool("perl", "tool-missing", "perl-base"))
      : Promise.resolve(undefined);
    const network = (await host.networks?.findings()) ?? ONLY_NONE;
    return capabilityRecord(host, { usersMissing, network, denials: await this.#denials });
  }

  /**
   * Tells of system calls that filters of sandboxes of this driver refuse, where `capabilities().trace` has `audit` or `kernel-log`. The
   * second drops what comes too fast; either counts what is lost.
   */
  onDeniedCall(listener: (call: DeniedCall) => void): Disposable {
    return this.#denied.listen(listener);
  }

  /** Tells of everything that sandboxes of this driver do or try on the network. */
  async onNetwork(listener: (record: Telemetry) => void): Promise<Disposable> {
    const { host } = await this.#ready();
    return host.networks?.listen(listener) ?? { [Symbol.dispose]: () => {} };
  }

  async create(spec: SandboxSpec, signal?: AbortSignal): Promise<OciSandbox> {
    return this.#tracked(
      () => this.#create(() => resolveImage(this.home, spec.image), spec, { signal }),
      signal,
    );
  }

  /** From an image that needs no name: what an image builder has between two steps. `spec.image` is only told, not looked up. */
  async createFrom(image: LocalImage, spec: SandboxSpec, signal?: AbortSignal): Promise<OciSandbox> {
    return this.#tracked(() => this.#create(() => image, spec, { signal, builds: true }), signal);
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
    imageOf: () => LocalImage,
    spec: SandboxSpec,
    options: {
      readonly signal: AbortSignal | undefined;
      readonly waits?: boolean;
      /** What it writes becomes a layer: nothing of ours is bound to a path that the image may lack, and it never has a network. */
      readonly builds?: boolean;
    },
  ): Promise<OciSandbox> {
    this.#refuseIfOver(options.signal);
    const opened = await this.#ready();
    const host = options.builds === true ? { ...opened.host, networks: undefined } : opened.host;
    await admitNetwork(host.networks, spec.network);
    refuseOversized(spec.limits, capacityOf(host.space));
    refuseUnenforced(host, this.#options.unenforced);
    const { files: _, ...remembered } = spec;
    const stack = { image: imageOf(), spec: remembered, lower: [] };
    const { waits = false } = options;
    return this.#startNew(host, { stack, spec, snapshot: null, states: [], waits }, options.signal);
  }

  async #startNew(host: Host, beginning: Beginning, signal?: AbortSignal): Promise<OciSandbox> {
    const { stack, spec, snapshot, states, waits = false } = beginning;
    const id = spec.id === undefined ? freshSandboxId() : claimId(spec.id, this.home, host.cgroups);
    const layer = host.layers.fresh().id;
    const state = { ...stack, id, createdAtMs: Date.now(), layer, snapshot, ready: false, shells: [] };
    try {
      createSandboxState(host.space, state);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") removeSandboxDirectory(host.space, id);
      throw asDiskFull(error) ?? error;
    }
    const container = new RunningContainer(host, state, spec, this.#owner);
    await container.start({ fresh: true, plants: snapshot === null, waits });
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
      await container.destroy(container.isNew ? "destroyed" : "stopped");
      throw reason;
    }
    const sandbox = new OciSandbox(container, container.spec, states);
    // It may have crashed meanwhile.
    if (this.#running.has(container.id)) this.#sandboxes.set(container.id, sandbox);
    return sandbox;
  }

  readonly #owner: Owner = {
    telemetry: this.#telemetry,
    add: (container) => this.#running.set(container.id, container),
    remove: (id) => {
      this.#running.delete(id);
      this.#sandboxes.delete(id);
    },
    giveWay: () => this.#limiter.giveWay(LONGEST_WAY_MS),
    snapshot: (...request) => this.#opened!.taken.take(...request),
    revert: (...request) => this.#opened!.taken.revert(...request),
  };

  /**
   * Ends a sandbox and leaves what it wrote above its image in `target`, a directory that must not exist, as overlayfs has it: removed
   * paths are devices 0:0, replaced directories carry the attribute trusted.overlay.opaque. Throws an AleError, then `target` is not left.
   */
  async takeLayer(id: string, target: string): Promise<void> {
    const container = this.#running.get(id);
    if (container === undefined) throw gone(id);
    await container.destroy("destroyed", (upper) => copyLayer(upper, target));
  }

  #refuseIfOver(signal?: AbortSignal): void {
    signal?.throwIfAborted();
    if (this.#closed !== undefined) throw driverClosed();
  }

  readonly snapshots: Snapshots = {
    list: async () => (await this.#ready()).taken.list(),
    get: async (id) => (await this.#ready()).taken.get(id),
    remove: async (id) => (await this.#ready()).taken.remove(id),
    fork: async (id, count, options, signal) => (await this.#ready()).taken.fork(id, count, options, signal),
    diff: async (from, to) => (await this.#ready()).taken.diff(from, to),
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
      network: policyAfter(options.network, inherited.network),
      env: { ...inherited.env, ...options.env },
      labels: { ...inherited.labels, ...options.labels },
    };
    const { image, lower } = record;
    const { files: __, ...remembered } = spec;
    const stack = { image, lower, spec: remembered };
    const states = withEnvironment(record.shells, options.env ?? {});
    const make = async (): Promise<Sandbox> => {
      this.#refuseIfOver(signal);
      await admitNetwork(host.networks, spec.network);
      refuseOversized(spec.limits, capacityOf(host.space));
      refuseUnenforced(host, this.#options.unenforced);
      return this.#startNew(host, { stack, spec, snapshot: record.id, states }, signal);
    };
    return this.#tracked(make, signal);
  }

  /** What a snapshot consists of: an image, and directories above it, the topmost first. They are there as long as the snapshot is. */
  async snapshotLayers(id: string): Promise<Layers> {
    return (await this.#ready()).taken.layersOf(id);
  }

  /** What a sandbox consists of while it is frozen. */
  async frozenLayers(id: string): Promise<Layers> {
    const container = this.#running.get(id);
    if (container?.upper === undefined) throw gone(id);
    if (!container.frozen)
      throw new AleError("sandbox-not-frozen", `sandbox ${id} may change its files now`, {
        next: "freeze it first",
      });
    return { image: container.state.image, layers: container.writtenLayers };
  }

  /** The driver's directory. */
  async space(): Promise<string> {
    return (await this.#ready()).host.space;
  }

  /** Its sandboxes' shells are started, so that a command costs what it costs in a session that is in use. */
  pool(spec: SandboxSpec, options: PoolOptions): Pool {
    this.#refuseIfOver();
    if (spec.id !== undefined)
      throw new AleError("id-invalid", "the sandboxes of a pool cannot all have one id", {
        next: "leave `id` out of the pool's spec",
      });
    const source: PoolSource = {
      create: async (signal) => {
        const make = (): Promise<OciSandbox> =>
          this.#create(() => resolveImage(this.home, spec.image), spec, { signal, waits: true });
        const sandbox = await this.#tracked(make, signal);
        await sandbox.warm();
        // What only the first program of a sandbox pays for, paid here; it need not exist.
        await sandbox.exec({ argv: ["/dev/.ale/none"] });
        return sandbox;
      },
      taken: (sandbox) => this.#running.get(sandbox.id)?.handOver(),
      closed: () => this.#pools.delete(pool),
    };
    const concurrency = Math.max(1, Math.floor(this.#concurrency / 2));
    const pool = new SandboxPool(source, { size: options.size, concurrency });
    this.#pools.add(pool);
    return pool;
  }

  /** Resolves when the merging of long chains of layers, which nobody needs to wait for, is done. */
  async flattened(): Promise<void> {
    await (await this.#ready()).taken.flattened();
  }

  list(): readonly Sandbox[] {
    return [...this.#sandboxes.values()].filter((sandbox) => sandbox.endReason === undefined);
  }

  async reap(): Promise<ReapReport> {
    requireRoot();
    return reapDead(this.home, probeCgroups());
  }

  /** Those of a durable driver that do not run. */
  async stoppedSandboxes(): Promise<readonly StoppedSandbox[]> {
    const { host } = await this.#ready();
    return stoppedIn(host.space, (id) => this.#running.has(id));
  }

  async lost(): Promise<Lost> {
    return (await this.#ready()).lost;
  }

  /** Of a durable driver. Shells are captured, so that a resumed sandbox has them. */
  async stopSandbox(id: string): Promise<void> {
    await this.#ready();
    const container = this.#running.get(id);
    if (container === undefined) return;
    const shells = this.#sandboxes.get(id)?.captureShells() ?? Promise.resolve([]);
    await container.stop(await shells);
  }

  async resumeSandbox(id: string, signal?: AbortSignal): Promise<OciSandbox> {
    const { host } = await this.#ready();
    const make = async (): Promise<OciSandbox> => {
      this.#refuseIfOver(signal);
      // One that is just ending is waited for.
      await this.#running.get(id)?.endingUnlessRunning();
      const { container, shells } = await startStopped(host, id, this.#owner, this.#running.has(id));
      return this.#present(container, shells, signal);
    };
    return this.#tracked(make, signal);
  }

  async removeStopped(id: string): Promise<void> {
    const { host } = await this.#ready();
    await removeStopped(host, id, this.#running.has(id));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.allSettled([...this.#pools].map((pool) => pool[Symbol.asyncDispose]()));
    await Promise.allSettled(this.#creating);
    const opened = await this.#opening?.catch(() => undefined);
    const reason = opened?.host.durable ? "stopped" : "destroyed";
    await opened?.taken.close();
    if (opened !== undefined) await this.#keepEvidence(opened.host);
    await Promise.all([...this.#running.values()].map((container) => container.destroy(reason)));
    this.#telemetry[Symbol.dispose]();
    await this.#tracer[Symbol.asyncDispose]();
    this.#denied[Symbol.dispose]();
    await opened?.close();
  }

  /** Files of sandboxes in quarantine that could not be kept before. */
  async #keepEvidence({ space, durable }: Host): Promise<void> {
    const { failures } = await salvage(this.home, space);
    if (!durable && failures.length > 0)
      loseWanted(this.home, space, failures.map(({ what }) => what).join("; "));
  }

  #ready(): Promise<Opened> {
    if (this.#closed !== undefined && this.#opening === undefined) return Promise.reject(driverClosed());
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<Opened> {
    const open = await openHost(this.home, this.#options);
    const taken = new OciSnapshots({
      host: open.host,
      store: open.snapshots,
      budgetBytes: open.budgetBytes,
      depth: this.#options.longestChain,
      createAbove: (...request) => this.#createAbove(open.host, ...request),
    });
    this.#opened = { ...open, taken };
    return this.#opened;
  }
}

const driverClosed = (): AleError =>
  new AleError("driver-closed", "the sandbox driver has been closed", { next: "open another one" });
