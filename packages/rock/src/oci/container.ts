import { chmodSync, chownSync, readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import type { ReadWatch } from "../files/read-watch.ts";
import { Tree } from "../files/tree.ts";
import { type CgroupHost, cgroupsPath, killGroup, removeGroup } from "../host/cgroup.ts";
import { readCounters } from "../host/cgroup-stats.ts";
import { unmount } from "../host/native.ts";
import { type Runtime, runArguments } from "../host/runtime.ts";
import type { LocalImage } from "../image/local-image.ts";
import { ControlChannel } from "../inside/control.ts";
import { initArgv, startFields } from "../inside/init.ts";
import type { EndReason, SandboxSpec, SandboxStats } from "../port/sandbox.ts";
import { Activity } from "./activity.ts";
import type { Launched, Launcher } from "./launcher.ts";
import { ociConfig } from "./oci-config.ts";
import { mountRoot, plant, usageOf } from "./rootfs.ts";
import type { SandboxUsers } from "./sandbox-users.ts";
import { compiledSeccomp } from "./seccomp-compile.ts";
import { type Places, places, removeSandboxDirectory } from "./state.ts";
import type { UserNamespaces } from "./user-namespaces.ts";

/** One container's life on the host: mounts, runtime process, control channel, and the removal of all of it. */

export interface Host {
  /** The driver's directory. */
  readonly space: string;
  readonly runtime: Runtime;
  readonly cgroups: CgroupHost;
  readonly reads: ReadWatch;
  readonly launcher: Launcher;
  /** Undefined: sandboxes share the host's users. */
  readonly users: UserNamespaces | undefined;
  /** Whether the kernel logs what the filter refuses. */
  readonly logDenied: boolean;
}

/** Told of every container from its first process to its last trace, so that its owner can always end it. */
export interface Tracker {
  add(container: RunningContainer): void;
  remove(id: string): void;
}

/** A longer one would fire at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** How long PID 1 may take to follow its closed control channel before it is killed. */
const POLITE_EXIT_MS = 500;

export class RunningContainer {
  readonly id: string;
  readonly tree: Tree;
  readonly control = new ControlChannel();
  readonly activity = new Activity();
  /** Resolves when its last trace is gone. */
  readonly whenEnded: Promise<EndReason>;
  readonly #host: Host;
  readonly users: SandboxUsers | undefined;
  readonly #launched: Launched;
  readonly #track: Tracker;
  #connection: Socket | undefined;
  #ended = false;
  #exited = false;
  #destroyed: Promise<void> | undefined;
  #endReason: EndReason | undefined;
  #started = false;
  #timers: NodeJS.Timeout[] = [];
  readonly #settleEnded: (reason: EndReason) => void;

  constructor(
    host: Host,
    id: string,
    tree: Tree,
    users: SandboxUsers | undefined,
    launched: Launched,
    track: Tracker,
  ) {
    this.id = id;
    this.users = users;
    this.tree = tree;
    this.#host = host;
    this.#launched = launched;
    this.#track = track;
    const { promise, resolve } = Promise.withResolvers<EndReason>();
    this.whenEnded = promise;
    this.#settleEnded = resolve;
    void launched.exited.then(() => {
      this.#exited = true;
      this.#ended = true;
      this.control.close();
      // Before it has started, its starter removes it and reads what it has to say.
      if (this.#started) void this.destroy("crashed");
    });
  }

  /** True as soon as destruction has begun or PID 1 is gone. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Undefined while it runs; set as soon as its end begins. */
  get endReason(): EndReason | undefined {
    return this.#endReason;
  }

  get reads(): ReadWatch {
    return this.#host.reads;
  }

  /** Speaks first with PID 1. Throws an AleError if the container ended instead of starting. */
  async start(spec: SandboxSpec): Promise<void> {
    const connection = await this.#launched.connection;
    if (connection !== null) {
      this.#connection = connection;
      this.control.attach(connection);
      this.control.send("start", ...startFields());
    }
    if (connection === null || !(await this.control.ready)) {
      await Promise.race([this.#launched.exited, sleep(POLITE_EXIT_MS)]);
      throw new AleError("sandbox-start-failed", `the container did not start: ${this.#complaint()}`, {
        next: "run `./ale doctor`",
      });
    }
    this.#started = true;
    this.#endAfter(spec.limits.lifetimeMs);
    if (spec.idleMs !== undefined) this.#endWhenIdle(spec.idleMs);
  }

  #endAfter(lifetimeMs: number): void {
    const end = (): void => void this.destroy("lifetime");
    this.#timers.push(setTimeout(end, Math.min(lifetimeMs, LONGEST_TIMER_MS)).unref());
  }

  /** Looks again when it could be due at the earliest, so that a request costs no timer. */
  #endWhenIdle(idleMs: number): void {
    const look = (): void => {
      const left = idleMs - this.activity.idleMs;
      if (left <= 0) void this.destroy("idle");
      else this.#timers[1] = setTimeout(look, Math.min(Math.max(left, 1), LONGEST_TIMER_MS)).unref();
    };
    look();
  }

  #complaint(): string {
    try {
      const text = readFileSync(logOf(places(this.#host.space, this.id)), "utf8")
        .slice(0, 4096)
        .trim();
      return text === "" ? "it said nothing" : text;
    } catch {
      return "it left no message";
    }
  }

  stats(): SandboxStats {
    const { layer } = places(this.#host.space, this.id);
    const counters = readCounters(this.#host.cgroups, this.id);
    const { activity } = this;
    return {
      ...counters,
      pids: counters.pids === null ? null : Math.max(0, counters.pids - 1),
      ...usageOf(layer),
      outputBytes: activity.outputBytes,
      uptimeMs: activity.uptimeMs,
      idleMs: activity.idleMs,
    };
  }

  /**
   * The first reason counts. `rescue` gets the writable layer when no process is left, before it is removed; it is not called where the
   * end had begun already, which rejects with an AleError `sandbox-gone`, and its own failure is passed on when all is removed.
   */
  async destroy(reason: EndReason = "destroyed", rescue?: (upper: string) => Promise<void>): Promise<void> {
    const late = this.#destroyed !== undefined;
    this.#endReason ??= reason;
    let failure: { error: unknown } | undefined;
    this.#destroyed ??= this.#destroy(async (upper) => {
      try {
        await rescue?.(upper);
      } catch (error) {
        failure = { error };
      }
    });
    await this.#destroyed;
    if (late && rescue !== undefined)
      throw new AleError("sandbox-gone", `sandbox ${this.id} has ended`, { next: "create a new sandbox" });
    if (failure !== undefined) throw failure.error;
  }

  async #destroy(rescue: (upper: string) => Promise<void>): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#ended = true;
    this.control.close();
    // PID 1 ends with its control channel, and with PID 1 everything in its namespace.
    this.#connection?.destroy();
    if (this.#connection === undefined) void this.#launched.connection.then((late) => late?.destroy());
    await Promise.race([this.#launched.exited, sleep(POLITE_EXIT_MS)]);
    if (!this.#exited) await this.#kill();
    this.tree.close();
    const place = places(this.#host.space, this.id);
    while (unmount(place.root));
    await rescue(join(place.layer, "upper"));
    // Where a process is left, its numbers are nobody else's.
    const clean = await removeTraces(this.#host, this.id);
    if (clean && this.users !== undefined) this.#host.users?.giveBack(this.users);
    this.#host.reads.forget(this.id);
    this.#track.remove(this.id);
    this.#settleEnded(this.#endReason ?? "destroyed");
  }

  async #kill(): Promise<void> {
    for (let round = 0; round < 100 && !this.#exited; round++) {
      if (killGroup(this.#host.cgroups, this.id)) this.#launched.kill();
      await Promise.race([this.#launched.exited, sleep(20)]);
    }
  }
}

/** Makes the mounts and files of a sandbox and starts its runtime. On failure nothing is left. */
export async function startContainer(
  host: Host,
  id: string,
  image: LocalImage,
  spec: SandboxSpec,
  track: Tracker,
): Promise<RunningContainer> {
  let container: RunningContainer | undefined;
  let users: SandboxUsers | undefined;
  try {
    const place = places(host.space, id);
    users = await host.users?.take();
    if (users !== undefined) letIn(place.directory, users);
    await mountRoot(place, image, spec.limits, users);
    const tree = new Tree(place.root, users?.ids);
    try {
      plant(tree, spec, (path, fd) => host.reads.add(id, path, fd));
      container = new RunningContainer(host, id, tree, users, launch(host, id, place, spec, users), track);
      track.add(container);
    } catch (error) {
      tree.close();
      throw error;
    }
    await container.start(spec);
    return container;
  } catch (error) {
    if (container !== undefined) await container.destroy();
    else if ((await removeTraces(host, id)) && users !== undefined) host.users?.giveBack(users);
    throw error;
  }
}

/** The runtime enters the root with the rights of the sandbox's own root; nobody else may. */
function letIn(directory: string, users: SandboxUsers): void {
  chownSync(directory, 0, users.first);
  chmodSync(directory, 0o710);
}

/** The names that a machine knows without a network. A bind mount, so that it is the sandbox's own and no change of its image. */
function writeHosts(place: Places, id: string, users: SandboxUsers | undefined): string {
  const path = join(place.layer, "hosts");
  writeFileSync(path, `127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 ${hostnameOf(id)}\n`);
  if (users !== undefined) {
    letIn(place.layer, users);
    chownSync(path, users.first, users.first);
  }
  return path;
}

/** Long enough to tell sandboxes apart, short enough for a prompt. */
const hostnameOf = (id: string): string => (id.length <= 16 ? id : id.slice(-12).replace(/^-+/, ""));

const logOf = (place: Places): string => join(place.layer, "bundle", "log");

function launch(
  host: Host,
  id: string,
  place: Places,
  spec: SandboxSpec,
  users: SandboxUsers | undefined,
): Launched {
  const bundle = join(place.layer, "bundle");
  const config = ociConfig({
    rootfs: host.launcher.seen(place.root),
    hostname: hostnameOf(id),
    binds: [{ source: host.launcher.seen(writeHosts(place, id, users)), destination: "/etc/hosts" }],
    users,
    init: initArgv(),
    limits: spec.limits,
    cgroupsPath: cgroupsPath(id),
    compileSeccomp: compiledSeccomp,
    logDenied: host.logDenied,
  });
  writeFileSync(join(bundle, "config.json"), JSON.stringify(config));
  const [seenBundle, state] = [bundle, join(place.layer, "runtime")].map((path) => host.launcher.seen(path));
  const argv = runArguments(host.runtime, { state: state!, bundle: seenBundle!, id });
  return host.launcher.launch(id, logOf(place), argv);
}

/** Removes mounts, groups and directories of a sandbox whose processes are gone or will be killed here. */
export async function removeTraces(host: Pick<Host, "space" | "cgroups">, id: string): Promise<boolean> {
  const place = places(host.space, id);
  // The merged root lies over the writable layer.
  for (const path of [place.root, place.layer]) while (unmount(path));
  let clean = false;
  for (let round = 0; round < 100 && !clean; round++) {
    clean = killGroup(host.cgroups, id) && removeGroup(host.cgroups, id);
    if (!clean) await sleep(10);
  }
  removeSandboxDirectory(host.space, id);
  return clean;
}
