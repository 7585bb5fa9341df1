import { availableParallelism } from "node:os";
import { AleError } from "@ale/core";
import { defaultHome } from "../host/home.ts";
import { Limiter } from "../host/limiter.ts";
import { refuseOversized } from "../oci/capacity.ts";
import { freshSandboxId } from "../oci/sandbox-id.ts";
import { isSandboxId } from "../oci/state.ts";
import { type PoolSource, SandboxPool } from "../pool/pool.ts";
import type { Capabilities } from "../port/capabilities.ts";
import type { Pool, PoolOptions, ReapReport, SandboxDriver } from "../port/driver.ts";
import { refuseNetwork } from "../port/network.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { Snapshots } from "../port/snapshots.ts";
import { capabilityRecord, NETWORK_MODES } from "./capability-record.ts";
import { type ContainerHost, DockerContainer } from "./docker-container.ts";
import { type Beginning, DockerSandbox, type SandboxHome } from "./docker-sandbox.ts";
import type { EngineImage, EngineImages } from "./engine-images.ts";
import { isOutOfReach } from "./engine-toolbox.ts";
import { findImage } from "./find-image.ts";
import { type DockerDriverOptions, type OpenEngine, openEngine } from "./open-engine.ts";
import { reapContainers } from "./reap.ts";
import { badId, explained, oneIdForAll, taken } from "./refusals.ts";

/**
 * Sandboxes as containers of an engine (Docker, Docker Desktop, colima, Podman), for machines that have only that. Slower to make and to
 * fork than the OCI driver's, and the same to use: our own PID 1 runs in them. Owns every sandbox it made.
 */

/** What is to be made. */
interface Creation {
  readonly spec: SandboxSpec;
  readonly begin: (open: OpenEngine) => Promise<Beginning>;
  /** For a pool: its time does not count until it is handed over. */
  readonly waits?: boolean;
}

export class DockerDriver implements SandboxDriver {
  readonly home: string;
  readonly snapshots: Snapshots;
  readonly #options: DockerDriverOptions;
  readonly #limiter: Limiter;
  readonly #creating = new Set<Promise<Sandbox>>();
  readonly #running = new Map<string, DockerContainer>();
  readonly #sandboxes = new Map<string, DockerSandbox>();
  readonly #pools = new Set<Pool>();
  readonly #concurrency: number;
  #opening: Promise<OpenEngine> | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: DockerDriverOptions = {}) {
    this.#options = options;
    this.home = options.home ?? defaultHome();
    this.#concurrency = options.concurrency ?? availableParallelism();
    this.#limiter = new Limiter(this.#concurrency);
    this.snapshots = {
      list: async () => (await this.#ready()).snapshots.list(),
      get: async (id) => (await this.#ready()).snapshots.get(id),
      remove: async (id) => (await this.#ready()).snapshots.remove(id),
      diff: async (from, to) => (await this.#ready()).snapshots.diff(from, to),
      fork: async (id, count, options, signal) => {
        const { spec, ...beginning } = await (await this.#ready()).snapshots.forFork(id, options);
        return this.#forkAll(beginning, spec, count, signal);
      },
    };
  }

  async capabilities(): Promise<Capabilities> {
    const { info, host } = await this.#ready();
    return capabilityRecord(info, host);
  }

  /** The image has to be there: in the local store, or at the engine (`pull`). */
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox> {
    return this.#track({ spec, begin: this.#fromImage(spec.image, signal) }, signal);
  }

  #fromImage(name: string, signal?: AbortSignal): Creation["begin"] {
    return async (open) => ({ image: await findImage(open.images, this.home, name, signal), shells: [] });
  }

  /** Images of the engine, to be pulled or looked at. */
  async images(): Promise<EngineImages> {
    return (await this.#ready()).images;
  }

  async #track(creation: Creation, signal?: AbortSignal): Promise<Sandbox> {
    const creating = this.#limiter.run(() => this.#create(creation, signal), signal);
    this.#creating.add(creating);
    try {
      return await creating;
    } finally {
      this.#creating.delete(creating);
    }
  }

  async #create({ spec, begin, waits = false }: Creation, signal?: AbortSignal): Promise<Sandbox> {
    this.#refuseIfOver(signal);
    if (spec.readOnlyPaths !== undefined && spec.readOnlyPaths.length > 0)
      throw new AleError("spec-invalid", "read-only paths cannot be had at a container engine", {
        next: "leave out readOnlyPaths, or use the OCI driver",
      });
    refuseNetwork(NETWORK_MODES, spec.network);
    const open = await this.#ready();
    const { info } = open;
    refuseOversized(spec.limits, { cpus: info.cpus, memoryBytes: info.memoryBytes, diskBytes: Infinity });
    const { image, shells } = await begin(open);
    const id = spec.id ?? freshSandboxId();
    if (!isSandboxId(id)) throw badId(id);
    const container = await this.#start(open, id, image, spec, signal);
    try {
      const sandbox = await DockerSandbox.inhabit(container, spec, this.#homeOf(open), shells);
      this.#refuseIfOver(signal);
      if (!waits) container.handOver();
      // It may have crashed meanwhile.
      if (this.#running.has(id)) this.#sandboxes.set(id, sandbox);
      return sandbox;
    } catch (reason) {
      await container.destroy();
      throw reason;
    }
  }

  async #start(
    open: OpenEngine,
    id: string,
    image: EngineImage,
    spec: SandboxSpec,
    signal?: AbortSignal,
  ): Promise<DockerContainer> {
    const { toolbox } = open.host;
    try {
      return await this.#startOn(open.host, id, image, spec, signal);
    } catch (reason) {
      if (toolbox === undefined || !isOutOfReach(reason, toolbox)) throw reason;
      open.host = { ...open.host, toolbox: undefined };
      return this.#startOn(open.host, id, image, spec, signal);
    }
  }

  async #startOn(
    host: ContainerHost,
    id: string,
    image: EngineImage,
    spec: SandboxSpec,
    signal?: AbortSignal,
  ): Promise<DockerContainer> {
    if (this.#running.has(id)) throw taken(id);
    const container = new DockerContainer(host.engine, id, image, {
      remove: () => {
        this.#running.delete(id);
        this.#sandboxes.delete(id);
      },
    });
    this.#running.set(id, container);
    try {
      await container.start(host, spec, signal);
      return container;
    } catch (reason) {
      await container.destroy();
      throw explained(reason, id);
    }
  }

  #homeOf(open: OpenEngine): SandboxHome {
    return {
      beginningOf: (snapshot, current) => open.snapshots.forRevert(snapshot, current),
      snapshot: (container, spec, options, shells) => open.snapshots.take(container, spec, options, shells),
      restart: async (container, spec, image) => {
        const sandbox = this.#sandboxes.get(container.id);
        await container.destroy();
        const next = await this.#start(open, container.id, image, spec);
        next.handOver();
        if (sandbox !== undefined) this.#sandboxes.set(container.id, sandbox);
        return next;
      },
    };
  }

  async #forkAll(
    beginning: Beginning,
    spec: SandboxSpec,
    count: number,
    signal?: AbortSignal,
  ): Promise<readonly Sandbox[]> {
    const made = await Promise.allSettled(
      Array.from({ length: count }, () => this.#track({ spec, begin: async () => beginning }, signal)),
    );
    const failed = made.find((one) => one.status === "rejected");
    const sandboxes = made.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    if (failed === undefined) return sandboxes;
    await Promise.allSettled(sandboxes.map((sandbox) => sandbox.destroy()));
    throw failed.reason;
  }

  /** Its sandboxes' shells are started, so that a command costs what it costs in a session that is in use. */
  pool(spec: SandboxSpec, options: PoolOptions): Pool {
    this.#refuseIfOver();
    if (spec.id !== undefined) throw oneIdForAll();
    const source: PoolSource = {
      create: async (signal) => {
        const begin = this.#fromImage(spec.image, signal);
        const sandbox = await this.#track({ spec, begin, waits: true }, signal);
        await sandbox.shell.run(":");
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

  list(): readonly Sandbox[] {
    return [...this.#sandboxes.values()].filter((sandbox) => sandbox.endReason === undefined);
  }

  async reap(): Promise<ReapReport> {
    const { engine, snapshots } = await this.#ready();
    const report = await reapContainers(engine);
    await snapshots.sweep();
    return report;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.allSettled([...this.#pools].map((pool) => pool[Symbol.asyncDispose]()));
    await Promise.allSettled(this.#creating);
    await Promise.allSettled([...this.#running.values()].map((container) => container.destroy()));
    const open = await this.#opening?.catch(() => undefined);
    open?.engine.close();
  }

  #refuseIfOver(signal?: AbortSignal): void {
    signal?.throwIfAborted();
    if (this.#closed !== undefined) throw new AleError("driver-closed", "the sandbox driver has been closed");
  }

  #ready(): Promise<OpenEngine> {
    this.#opening ??= openEngine(this.home, this.#options).catch((reason) => {
      // The engine may be started meanwhile.
      this.#opening = undefined;
      throw reason;
    });
    return this.#opening;
  }
}

/** Nothing is asked of the engine before the first sandbox. */
export function openDockerDriver(options: DockerDriverOptions = {}): DockerDriver {
  return new DockerDriver(options);
}
