import { mkdirSync, writeFileSync } from "node:fs";
import { AleError, changedPolicy, type NetworkChange, type NetworkPolicy, ok } from "@ale/core";
import { nothingUsed } from "../egress/account.ts";
import type { ReadWatch } from "../files/read-watch.ts";
import { Tree } from "../files/tree.ts";
import { type CgroupHost, killGroup, processesOf } from "../host/cgroup.ts";
import { hastenAttach } from "../host/cgroup-haste.ts";
import { addCounters, type GroupCounters, readCounters } from "../host/cgroup-stats.ts";
import { ownGroups } from "../host/own-groups.ts";
import { ControlChannel } from "../inside/control.ts";
import { startFields } from "../inside/init.ts";
import { Activity } from "../life/activity.ts";
import { Deadlines } from "../life/deadlines.ts";
import type { NetworkChangeOptions, NetworkUse } from "../port/network.ts";
import type { EndReason, Hold, SandboxSpec, SandboxStats } from "../port/sandbox.ts";
import type { SnapshotOptions, SnapshotResult } from "../port/snapshot.ts";
import { freezeGroup, thawGroup } from "../snapshot/freeze.ts";
import type { TelemetryHub } from "../telemetry/hub.ts";
import { launchRuntime, logOf, writeBundle } from "./bundle.ts";
import type { Host, Restart, Shells, StartOptions } from "./container-host.ts";
import { asDiskFull, makeLayer, prepareLayer, usageOf } from "./layer.ts";
import { admitNetwork, SandboxNetwork } from "./network.ts";
import { mountOverlay } from "./overlay.ts";
import { giveIdentity, plant } from "./plant.ts";
import { Quiet } from "./quiet.ts";
import { detachRoot, removeGroups } from "./remains.ts";
import { Run } from "./run.ts";
import type { SandboxUsers } from "./sandbox-users.ts";
import { SessionShells } from "./session-shells.ts";
import { ownUser } from "./settings.ts";
import type { ShellState } from "./shell-state.ts";
import { places, removeSandboxDirectory, rootOf, type SandboxState, writeSandboxState } from "./state.ts";

/** One sandbox's life on the host: layers, mounts, processes, and the removal of all of it. */

/** The driver, as its containers know it: told of each from its first process to its last trace, so that it can always end it. */
export interface Owner {
  /** Told of everything that is seen of its sandboxes. */
  readonly telemetry: TelemetryHub;
  add(container: RunningContainer): void;
  remove(id: string): void;
  /** Resolves, before long, when nothing is under way that somebody waits for more than for a removal. */
  giveWay(): Promise<void>;
  snapshot(
    container: RunningContainer,
    shells: Shells,
    options?: SnapshotOptions,
    signal?: AbortSignal,
  ): Promise<SnapshotResult>;
  revert(container: RunningContainer, shells: Shells, snapshot: string, signal?: AbortSignal): Promise<void>;
}

export class RunningContainer {
  readonly id: string;
  readonly owner: Owner;
  readonly activity = new Activity();
  /** That its PID 1 has started for sessions. */
  readonly shells = new SessionShells(() => processesOf(this.#host.cgroups, this.id));
  /** Resolves when its last process is gone and, unless they are kept, its last file. */
  readonly whenEnded: Promise<EndReason>;
  readonly #host: Host;
  #spec: SandboxSpec;
  #state: SandboxState;
  readonly #network: SandboxNetwork | undefined;
  #users: SandboxUsers | undefined;
  #run: Run | undefined;
  #control = new ControlChannel();
  #tree: Tree | undefined;
  /** Where it is merged while it runs. */
  #root: string | undefined;
  /** When the kernel has let go of the last root: in proportion to what the sandbox has touched, so nobody waits who need not. */
  #detached: Promise<void> = Promise.resolve();
  #gone = false;
  #frozen = false;
  #held: Disposable | undefined;
  #destroyed: Promise<void> | undefined;
  readonly #quiet = new Quiet();
  #endReason: EndReason | undefined;
  readonly #deadlines = new Deadlines((reason) => this.#endBecause(reason));
  #countersBefore: GroupCounters | undefined;
  #new = true;
  readonly #settleEnded: (reason: EndReason) => void;

  constructor(host: Host, state: SandboxState, spec: SandboxSpec, owner: Owner) {
    this.id = state.id;
    this.#spec = spec;
    this.owner = owner;
    this.#host = host;
    this.#state = state;
    const kept = host.durable ? places(host.space, this.id).directory : undefined;
    this.#network = host.networks && new SandboxNetwork(this.id, host.networks, spec.network, kept);
    const { promise, resolve } = Promise.withResolvers<EndReason>();
    this.whenEnded = promise;
    this.#settleEnded = resolve;
    host.layers.hold(this.id, [state.layer, ...state.lower]);
    owner.add(this);
  }

  /** As it was asked for; the network policy is the one that it has now. */
  get spec(): SandboxSpec {
    return this.#spec;
  }

  /** Another one after each restart; closed, and therefore `gone`, when the sandbox has ended. Await `settled` first. */
  get control(): ControlChannel {
    return this.#control;
  }

  /** Another one after each restart. Await `settled` first. */
  get tree(): Tree {
    return this.#tree!;
  }

  /** It was not resumed. */
  get isNew(): boolean {
    return this.#new;
  }

  /** Where its end has begun, the end of that. */
  async endingUnlessRunning(): Promise<void> {
    if (this.#destroyed !== undefined) await this.whenEnded;
  }

  /** Keeps the files. */
  async stop(shells: readonly ShellState[]): Promise<void> {
    this.#state = { ...this.#state, shells };
    await this.destroy("stopped");
  }

  get state(): SandboxState {
    return this.#state;
  }

  /** Undefined unless a restart is under way; then resolves with its end. Only then a request is heard. */
  get settled(): Promise<void> | undefined {
    return this.#quiet.settled;
  }

  /** True as soon as its end has begun or PID 1 is gone for good. */
  get ended(): boolean {
    return this.#gone || this.#endReason !== undefined;
  }

  /** Undefined while it runs; set as soon as its end begins. */
  get endReason(): EndReason | undefined {
    return this.#endReason;
  }

  /** Whom its users are on the host; undefined before it starts, and where they are the host's own. */
  get users(): SandboxUsers | undefined {
    return this.#users;
  }

  get cgroups(): CgroupHost {
    return this.#host.cgroups;
  }

  /** What was written above the image, for reading alone; undefined while it is not there. */
  get upper(): string | undefined {
    return this.#root === undefined ? undefined : this.#host.layers.at(this.#state.layer).upper;
  }

  /** Directories of the layers below that, the uppermost first. */
  get lower(): readonly string[] {
    return [...this.#sealed, ...this.#state.image.layers];
  }

  /** Directories of all that it wrote above its image, the uppermost first. */
  get writtenLayers(): readonly string[] {
    return [this.#host.layers.at(this.#state.layer).upper, ...this.#sealed];
  }

  get #sealed(): readonly string[] {
    return this.#state.lower.map((id) => this.#host.layers.at(id).upper);
  }

  /** No process of it runs. */
  get frozen(): boolean {
    return this.#frozen;
  }

  /** Throws an AleError: `freeze-failed`, `sandbox-gone`. */
  freeze(hold: boolean): Promise<void> {
    return this.undisturbed(async () => {
      await freezeGroup(this.#host.cgroups, this.id);
      this.#frozen = true;
      if (hold) this.#held ??= this.#deadlines.hold();
    });
  }

  thaw(): Promise<void> {
    return this.undisturbed(async () => {
      thawGroup(this.#host.cgroups, this.id);
      this.#frozen = false;
      this.#held?.[Symbol.dispose]();
      this.#held = undefined;
    });
  }

  /** See `Sandbox.hold`. */
  hold(maxMs: number): Hold {
    return this.#deadlines.holdWithin(maxMs);
  }

  get reads(): ReadWatch {
    return this.#host.reads;
  }

  /** Throws an AleError; then nothing is left, or, of one that is not `fresh`, the files. */
  async start(options: StartOptions): Promise<void> {
    if (this.#host.ownHierarchies === undefined) hastenAttach();
    const starting = this.#start(options);
    this.#quiet.settleAfter(starting);
    try {
      await starting;
      if (this.ended) throw gone(this.id);
    } catch (error) {
      await this.destroy(options.fresh ? "destroyed" : "crashed");
      throw asDiskFull(error) ?? error;
    }
    this.#new = options.fresh;
    if (options.waits !== true) this.handOver();
  }

  /** Somebody has it: from now on its lifetime, its idle time and its uptime count. */
  handOver(): void {
    this.activity.restart();
    this.#state = { ...this.#state, ready: true, shells: [] };
    if (this.#host.durable) writeSandboxState(this.#host.space, this.#state);
    this.#deadlines.lifetime(this.spec.limits.lifetimeMs);
    if (this.spec.idleMs !== undefined) this.#deadlines.idle(this.spec.idleMs, this.activity);
  }

  async #start(options: StartOptions): Promise<void> {
    const layer = this.#host.layers.at(this.#state.layer);
    this.#users = await this.#host.users?.take();
    if (options.fresh) await makeLayer(layer, this.spec.limits);
    await this.#begin(() => {
      if (options.fresh) giveIdentity(this.tree);
      if (options.plants)
        plant(this.tree, this.spec, this.#state.image.config.workdir, (path, fd) =>
          this.reads.add(this.id, path, fd),
        );
    });
  }

  /** Mounts, plants, runs. */
  async #begin(prepare: () => void = () => {}): Promise<void> {
    const { layers, space } = this.#host;
    const { directory } = places(space, this.id);
    const root = rootOf(space, this.id, this.#state.layer);
    mkdirSync(root, { recursive: true });
    this.#root = root;
    const users = this.#users;
    const layer = layers.at(this.#state.layer);
    prepareLayer(layer);
    // It gets ready while what it is to run is still being made.
    const start = startFields(process.arch, this.#host.toolbox.bash);
    const hierarchies = this.#host.ownHierarchies;
    const groups = hierarchies && ownGroups(hierarchies, this.id, this.spec.limits);
    const run = new Run(launchRuntime(this.#host, this.id, layer, groups?.enter), logOf(layer), start);
    this.#run = run;
    this.#control = run.control;
    run.control.onShell = (start) => this.shells.add(start);
    mountOverlay({ layer: layer.directory, lower: this.lower, root, users });
    this.#tree = new Tree(root, users?.ids);
    this.#tree.agent = ownUser({ spec: this.spec, config: this.#state.image.config, files: this.#tree });
    prepare();
    const { limits, readOnlyPaths } = this.spec;
    const bundle = { id: this.id, directory, root, layer, limits, readOnlyPaths, users };
    await run.start(writeBundle(this.#host, bundle));
    for (const [path, value] of groups?.limits ?? []) writeFileSync(path, value);
    await this.#network?.begin(layer.resolver);
    void run.exited.then(() => {
      if (this.#run !== run) return;
      this.#gone = true;
      this.#endBecause("crashed");
    });
  }

  /** Ends all processes and detaches the root filesystem. The layers stay. */
  async #end(): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    const { cgroups } = this.#host;
    const counters = readCounters(cgroups, this.id);
    // It would not follow its closed channel.
    if (this.#frozen) killGroup(cgroups, this.id);
    await run?.end(() => killGroup(cgroups, this.id));
    this.#frozen = false;
    this.#network?.end();
    this.#countersBefore = addCounters(this.#countersBefore ?? counters, counters);
    this.#tree?.close();
    const root = this.#root;
    this.#root = undefined;
    if (root !== undefined) this.#detached = detachRoot(root);
  }

  /**
   * Ends all processes, changes the layers, and starts again above the new ones; what is asked from now on waits. Throws an AleError:
   * `sandbox-gone`, or what `prepare` throws, and the sandbox runs on; after that the sandbox is destroyed, because there is nothing to go
   * back to.
   */
  restart(restart: Restart): Promise<void> {
    return this.undisturbed(async () => {
      await restart.prepare();
      await this.#quiet.unused(this.id);
      await this.#restart(restart);
    });
  }

  /** Throws an AleError `network-unsupported`; then it has the policy that it had. */
  setNetwork(change: NetworkChange, options: NetworkChangeOptions): Promise<void> {
    return this.undisturbed(async () => {
      const policy = changedPolicy(change, this.#network?.budgets);
      await admitNetwork(this.#host.networks, policy);
      const before = this.#spec.network;
      // First: a crash between the two must not bring back what was taken away.
      this.#remember(policy);
      try {
        await this.#network?.change(policy, options);
      } catch (error) {
        this.#remember(before);
        throw error;
      }
    });
  }

  get networkUse(): NetworkUse {
    return this.#network?.use ?? { sandbox: nothingUsed(), hosts: {} };
  }

  #remember(network: NetworkPolicy): void {
    this.#spec = { ...this.#spec, network };
    this.#state = { ...this.#state, spec: { ...this.#state.spec, network } };
    writeSandboxState(this.#host.space, this.#state);
  }

  /** Does something for which the sandbox must neither be restarted nor removed; requests wait meanwhile. */
  undisturbed<T>(work: () => Promise<T>): Promise<T> {
    return this.#quiet.inTurn(() => {
      if (this.ended) throw gone(this.id);
      return work();
    });
  }

  async #restart({ change, resume }: Restart): Promise<void> {
    const { layers, space } = this.#host;
    try {
      const wasRead = this.#filesRead();
      await this.#end();
      await removeGroups(this.#host, this.id);
      const before = [this.#state.layer, ...this.#state.lower];
      this.#state = { ...this.#state, ...(await change()) };
      writeSandboxState(space, this.#state);
      layers.hold(this.id, [this.#state.layer, ...this.#state.lower]);
      await layers.removeUnheld(before);
      await this.#begin(() => this.#watchAgain(wasRead));
      resume();
    } catch (error) {
      // Not awaited: destruction waits for this restart.
      this.#endBecause("crashed");
      throw error;
    }
  }

  /** Planted files of which it is known whether they have been read. */
  #filesRead(): ReadonlyMap<string, boolean> {
    const known = this.spec.files.map(({ path }) => [path, this.reads.wasRead(this.id, path)] as const);
    return new Map(known.flatMap(([path, read]) => (read === undefined ? [] : [[path, read]])));
  }

  #watchAgain(wasRead: ReadonlyMap<string, boolean>): void {
    this.reads.forget(this.id);
    for (const [path, read] of wasRead)
      this.tree.open(path, (fd) => {
        this.reads.add(this.id, path, fd, read);
        return ok(undefined);
      });
  }

  /** For work on its files from outside. */
  use(): Disposable {
    const busy = this.activity.begin();
    const use = this.#quiet.use();
    return {
      [Symbol.dispose]: () => {
        busy[Symbol.dispose]();
        use[Symbol.dispose]();
      },
    };
  }

  /** What cannot be removed now, the next one who clears up finds by its state. */
  #endBecause(reason: EndReason): void {
    this.destroy(reason).catch(() => {});
  }

  stats(): SandboxStats {
    const now = readCounters(this.#host.cgroups, this.id);
    const counters = this.#countersBefore === undefined ? now : addCounters(this.#countersBefore, now);
    const { activity } = this;
    return {
      ...counters,
      pids: counters.pids === null ? null : Math.max(0, counters.pids - 1),
      ...usageOf(this.#host.layers.at(this.#state.layer)),
      outputBytes: activity.outputBytes,
      uptimeMs: activity.uptimeMs,
      idleMs: activity.idleMs,
    };
  }

  /**
   * The first reason counts. Where the driver is durable, only `destroyed` removes the files. `rescue` gets the writable layer when no
   * process is left, before it is removed; where the end had begun already it is not called, and this rejects with an AleError
   * `sandbox-gone`. Its own failure is passed on when all is removed.
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
    if (late && rescue !== undefined) throw gone(this.id);
    if (failure !== undefined) throw failure.error;
  }

  async #destroy(rescue: (upper: string) => Promise<void>): Promise<void> {
    this.#deadlines.clear();
    this.#control.close();
    await this.#quiet.whenSettled();
    await this.owner.giveWay();
    try {
      await this.#end();
      await this.#detached;
      await rescue(this.#host.layers.at(this.#state.layer).upper);
      await this.#remove();
    } finally {
      this.reads.forget(this.id);
      this.owner.remove(this.id);
      this.#settleEnded(this.#endReason ?? "destroyed");
    }
  }

  async #remove(): Promise<void> {
    const clean = await removeGroups(this.#host, this.id);
    // Where a process is left, its numbers are nobody else's.
    if (clean && this.#users !== undefined) this.#host.users?.giveBack(this.#users);
    if (this.#host.durable && this.#state.ready && this.#endReason !== "destroyed") {
      writeSandboxState(this.#host.space, this.#state);
      return;
    }
    // Without its state nobody would look for what is left of it.
    if (clean) removeSandboxDirectory(this.#host.space, this.id);
    await this.#host.layers.release(this.id);
  }
}

export function gone(id: string): AleError {
  return new AleError("sandbox-gone", `sandbox ${id} has ended`, { next: "create a new sandbox" });
}
