import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { defaultHome } from "../host/home.ts";
import { Limiter } from "../host/limiter.ts";
import { resolveImage } from "../image/image.ts";
import { refuseOversized } from "../oci/capacity.ts";
import { freshSandboxId } from "../oci/sandbox-id.ts";
import { seccompProfile } from "../oci/seccomp.ts";
import { isSandboxId } from "../oci/state.ts";
import type { Capabilities } from "../port/capabilities.ts";
import type { Pool, PoolOptions, ReapReport, SandboxDriver } from "../port/driver.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { Snapshots } from "../port/snapshots.ts";
import { engineSeccomp } from "./container-options.ts";
import { type ContainerHost, DockerContainer } from "./docker-container.ts";
import { type Beginning, DockerSandbox, type SandboxHome } from "./docker-sandbox.ts";
import { DockerSnapshots } from "./docker-snapshots.ts";
import { Engine } from "./engine.ts";
import { type EngineImage, EngineImages } from "./engine-images.ts";
import { type EngineInfo, engineInfo } from "./engine-info.ts";
import { reapContainers } from "./reap.ts";
import { findSocket } from "./socket.ts";

/**
 * Sandboxes as containers of an engine (Docker, Docker Desktop, colima, Podman), for machines that have only that. Slower to make and to
 * fork than the OCI driver's, and the same to use: our own PID 1 runs in them. Owns every sandbox it made.
 */

/** What an engine may be unable to enforce. */
export type Unenforced = "cpu" | "memory" | "pids" | "disk" | "seccomp";

export interface DockerDriverOptions {
  /** Path of the engine's socket. Default: $DOCKER_HOST, else the usual places. */
  readonly socket?: string;
  /** Where local images lie. Default: $ALE_HOME, else ~/.ale. */
  readonly home?: string;
  /** Sandboxes started at the same time. Default: the number of processors. */
  readonly concurrency?: number;
  /**
   * What sandboxes may do without where this engine cannot enforce it. `disk`: a sandbox can fill the engine's disk. `seccomp`: the engine's
   * own system call filter is used, which allows more. Default: nothing; such an engine is refused.
   */
  readonly unenforced?: readonly Unenforced[];
}

interface Ready {
  readonly engine: Engine;
  readonly info: EngineInfo;
  readonly images: EngineImages;
  readonly host: ContainerHost;
  readonly snapshots: DockerSnapshots;
}

/** Rootful Podman asks for a million processes where none are named, which a process without CAP_SYS_RESOURCE may not give; the control group bounds them anyway. */
const PODMAN_PROCESSES = 32_768;

export class DockerDriver implements SandboxDriver {
  readonly home: string;
  readonly snapshots: Snapshots;
  readonly #options: DockerDriverOptions;
  readonly #limiter: Limiter;
  readonly #creating = new Set<Promise<Sandbox>>();
  readonly #running = new Map<string, DockerContainer>();
  readonly #sandboxes = new Map<string, DockerSandbox>();
  #preparing: Promise<Ready> | undefined;
  #closed = false;

  constructor(options: DockerDriverOptions = {}) {
    this.#options = options;
    this.home = options.home ?? defaultHome();
    this.#limiter = new Limiter(options.concurrency ?? availableParallelism());
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
    return {
      driver: "docker",
      runtime: info.runtime,
      rootless: info.rootless,
      cgroup: info.cgroup,
      userns: info.userns,
      idmap: false,
      enforces: { ...info.enforces, disk: host.diskLimit },
      quota: [host.diskLimit ? "engine" : "none"],
      network: ["none"],
      trace: [],
      checkpoint: "commit",
      weaker: weaknesses(info, host),
    };
  }

  /** The image has to be there: in the local store, or at the engine (`pull`). */
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox> {
    const begin = async (ready: Ready): Promise<Beginning> => ({
      image: await this.#image(ready, spec.image, signal),
      shells: [],
    });
    return this.#track(spec, begin, signal);
  }

  /** Images of the engine, to be pulled or looked at. */
  async images(): Promise<EngineImages> {
    return (await this.#ready()).images;
  }

  async #track(
    spec: SandboxSpec,
    begin: (ready: Ready) => Promise<Beginning>,
    signal?: AbortSignal,
  ): Promise<Sandbox> {
    const creation = this.#limiter.run(() => this.#create(spec, begin, signal), signal);
    this.#creating.add(creation);
    try {
      return await creation;
    } finally {
      this.#creating.delete(creation);
    }
  }

  async #create(
    spec: SandboxSpec,
    begin: (ready: Ready) => Promise<Beginning>,
    signal?: AbortSignal,
  ): Promise<Sandbox> {
    this.#refuseIfOver(signal);
    if (spec.readOnlyPaths !== undefined && spec.readOnlyPaths.length > 0)
      throw new AleError("spec-invalid", "read-only paths cannot be had at a container engine", {
        next: "leave out readOnlyPaths, or use the OCI driver",
      });
    const ready = await this.#ready();
    const { info } = ready;
    refuseOversized(spec.limits, { cpus: info.cpus, memoryBytes: info.memoryBytes, diskBytes: Infinity });
    const { image, shells } = await begin(ready);
    const id = spec.id ?? freshSandboxId();
    if (!isSandboxId(id)) throw badId(id);
    const container = await this.#start(ready, id, image, spec, signal);
    try {
      const sandbox = await DockerSandbox.inhabit(container, spec, this.#homeOf(ready), shells);
      this.#refuseIfOver(signal);
      // It may have crashed meanwhile.
      if (this.#running.has(id)) this.#sandboxes.set(id, sandbox);
      return sandbox;
    } catch (reason) {
      await container.destroy();
      throw reason;
    }
  }

  async #start(
    ready: Ready,
    id: string,
    image: EngineImage,
    spec: SandboxSpec,
    signal?: AbortSignal,
  ): Promise<DockerContainer> {
    if (this.#running.has(id)) throw taken(id);
    const container = new DockerContainer(ready.engine, id, image, {
      remove: () => {
        this.#running.delete(id);
        this.#sandboxes.delete(id);
      },
    });
    this.#running.set(id, container);
    try {
      await container.start(ready.host, spec, signal);
      return container;
    } catch (reason) {
      await container.destroy();
      throw explained(reason, id);
    }
  }

  async #image(ready: Ready, name: string, signal?: AbortSignal): Promise<EngineImage> {
    const local = localImage(this.home, name);
    if (local !== undefined) return ready.images.import(local, signal);
    const found = await ready.images.find(name, signal);
    if (found !== undefined) return found;
    throw new AleError("image-missing", `neither the engine nor the local store has the image ${name}`, {
      next: `pull it: docker pull ${name} (or podman pull ${name})`,
    });
  }

  #homeOf(ready: Ready): SandboxHome {
    return {
      beginningOf: (snapshot, current) => ready.snapshots.forRevert(snapshot, current),
      snapshot: (container, spec, options, shells) => ready.snapshots.take(container, spec, options, shells),
      restart: async (container, spec, image) => {
        const sandbox = this.#sandboxes.get(container.id);
        await container.destroy();
        const next = await this.#start(ready, container.id, image, spec);
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
      Array.from({ length: count }, () => this.#track(spec, async () => beginning, signal)),
    );
    const failed = made.find((one) => one.status === "rejected");
    const sandboxes = made.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    if (failed === undefined) return sandboxes;
    await Promise.allSettled(sandboxes.map((sandbox) => sandbox.destroy()));
    throw failed.reason;
  }

  pool(spec: SandboxSpec, options: PoolOptions): Pool {
    throw new AleError("not-yet", `no pool of ${options.size} sandboxes of ${spec.image}`);
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#creating);
    await Promise.allSettled([...this.#running.values()].map((container) => container.destroy()));
    const ready = await this.#preparing?.catch(() => undefined);
    ready?.engine.close();
  }

  #refuseIfOver(signal?: AbortSignal): void {
    signal?.throwIfAborted();
    if (this.#closed) throw new AleError("driver-closed", "the sandbox driver has been closed");
  }

  #ready(): Promise<Ready> {
    this.#preparing ??= this.#prepare().catch((reason) => {
      // The engine may be started meanwhile.
      this.#preparing = undefined;
      throw reason;
    });
    return this.#preparing;
  }

  async #prepare(): Promise<Ready> {
    const engine = await Engine.open(this.#options.socket ?? findSocket());
    try {
      const info = await engineInfo(engine);
      const accepted = new Set(this.#options.unenforced);
      const missing = missingFrom(info).filter((limit) => !accepted.has(limit));
      if (missing.length > 0) throw unenforceable(missing);
      const seccomp = accepted.has("seccomp") ? undefined : seccompOption(engine, this.home);
      const isPodman = engine.version.name === "podman";
      const host = {
        engine,
        seccomp,
        diskLimit: info.enforces.disk && !accepted.has("disk"),
        processUlimit: isPodman && !info.rootless ? PODMAN_PROCESSES : undefined,
      };
      await reapContainers(engine);
      const images = new EngineImages(engine);
      return { engine, info, images, host, snapshots: new DockerSnapshots(engine, images, this.home) };
    } catch (reason) {
      engine.close();
      throw reason;
    }
  }
}

function weaknesses(info: EngineInfo, host: ContainerHost): Capabilities["weaker"] {
  const weaker = [
    {
      what: "snapshots and forks cost time in proportion to what was written",
      why: "the engine copies the writable layer",
    },
  ];
  if (!host.diskLimit)
    weaker.push({ what: "a sandbox can fill the engine's disk", why: "the engine bounds no writable layer" });
  if (host.seccomp === undefined)
    weaker.push({
      what: "system calls are filtered by the engine's own list",
      why: "`unenforced` names seccomp",
    });
  if (!info.userns)
    weaker.push({
      what: "root in a sandbox is root on the engine's host, without its capabilities",
      why: "the engine uses no user namespaces",
    });
  return weaker;
}

function missingFrom(info: EngineInfo): Unenforced[] {
  const limits = (["cpu", "memory", "pids", "disk"] as const).filter((limit) => !info.enforces[limit]);
  return info.seccomp ? limits : [...limits, "seccomp"];
}

const MEANING: Readonly<Record<Unenforced, string>> = {
  cpu: "processor time",
  memory: "memory with its swap",
  pids: "the number of processes",
  disk: "the size of a sandbox's files",
  seccomp: "the filter of system calls",
};

function unenforceable(missing: readonly Unenforced[]): AleError {
  const what = missing.map((limit) => MEANING[limit]).join(", ");
  return new AleError("engine-unenforced", `this engine cannot enforce ${what}`, {
    next: `use an engine that can (disk: overlay on xfs with project quotas, btrfs or zfs), or do without: unenforced: ${JSON.stringify(missing)}`,
  });
}

/** Docker takes the profile itself; Podman reads it from a path on its own host. */
function seccompOption(engine: Engine, home: string): string {
  const profile = JSON.stringify(engineSeccomp(seccompProfile(engine.version.arch)));
  if (engine.version.name === "docker") return profile;
  const digest = createHash("sha256").update(profile).digest("hex").slice(0, 16);
  const directory = join(home, "engine");
  const path = join(directory, `seccomp-${digest}.json`);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  writeFileSync(path, profile, { mode: 0o644 });
  return path;
}

function localImage(home: string, name: string): ReturnType<typeof resolveImage> | undefined {
  try {
    return resolveImage(home, name);
  } catch (reason) {
    if (reason instanceof AleError && (reason.code === "image-unknown" || reason.code === "image-missing"))
      return undefined;
    throw reason;
  }
}

/** What an engine's refusal means. */
function explained(reason: unknown, id: string): unknown {
  if (!(reason instanceof AleError)) return reason;
  if (/name.*already in use/i.test(reason.message)) return taken(id);
  if (/storage-opt|StorageOpt|quota/i.test(reason.message)) return unenforceable(["disk"]);
  if (/seccomp profile/i.test(reason.message)) return unenforceable(["seccomp"]);
  return reason;
}

function badId(id: string): AleError {
  return new AleError("id-invalid", `${JSON.stringify(id.slice(0, 80))} cannot be the id of a sandbox`, {
    next: "use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit",
  });
}

function taken(id: string): AleError {
  return new AleError("id-taken", `there is a sandbox ${id} already`, {
    next: "choose another id, or destroy that sandbox first",
  });
}

/** Nothing is asked of the engine before the first sandbox. */
export function openDockerDriver(options: DockerDriverOptions = {}): DockerDriver {
  return new DockerDriver(options);
}
