import { randomBytes } from "node:crypto";
import { rmdirSync, statfsSync } from "node:fs";
import { AleError } from "@ale/core";
import type { RunningContainer } from "../oci/container.ts";
import type { Host, Shells } from "../oci/container-host.ts";
import { makeLayer, removeLayer, sealLayer, usageOf } from "../oci/layer.ts";
import { copyLayer } from "../oci/layer-copy.ts";
import type { ShellState } from "../oci/shell-state.ts";
import type { SandboxState } from "../oci/state.ts";
import type { Sandbox } from "../port/sandbox.ts";
import type { DiffEntry, ForkOptions, Snapshot, SnapshotOptions, SnapshotResult } from "../port/snapshot.ts";
import type { Snapshots } from "../port/snapshots.ts";
import type { Layers } from "./commit.ts";
import { diffStacks } from "./diff.ts";
import { Flattener } from "./flattener.ts";
import { whileFrozen } from "./freeze.ts";
import { asSnapshot, type SnapshotRecord, type SnapshotStore } from "./snapshot-store.ts";

/**
 * Snapshots of a driver's sandboxes. One is made by sealing: the sandbox's processes end, what it wrote becomes a read-only layer where it
 * lies, and the sandbox starts again with a fresh writable layer above it. Nothing is copied, whatever the size.
 */

/** Room for the records themselves. */
const RESERVE_BYTES = 2 ** 20;

/** Deeper ones are merged, beside everything else. */
const LONGEST_CHAIN = 30;

export interface SnapshotsOptions {
  readonly host: Host;
  readonly store: SnapshotStore;
  /** Most bytes that all layers of snapshots may take together. */
  readonly budgetBytes: number;
  /** Longest chain of layers that is left as it is. Default: 30. */
  readonly depth?: number | undefined;
  /** Makes one sandbox above the layers of a snapshot. */
  readonly createAbove: (
    record: SnapshotRecord,
    options: ForkOptions,
    signal?: AbortSignal,
  ) => Promise<Sandbox>;
}

interface Taking {
  readonly id: string;
  readonly shells: Shells;
  readonly options: SnapshotOptions;
}

export class OciSnapshots implements Snapshots {
  readonly #host: Host;
  readonly #store: SnapshotStore;
  readonly #budgetBytes: number;
  readonly #createAbove: SnapshotsOptions["createAbove"];
  readonly #flattener: Flattener;

  constructor(options: SnapshotsOptions) {
    this.#host = options.host;
    this.#store = options.store;
    this.#budgetBytes = options.budgetBytes;
    this.#createAbove = options.createAbove;
    this.#flattener = new Flattener(options.host.layers, options.store, options.depth ?? LONGEST_CHAIN);
  }

  /** Resolves when chains are as short as they get. */
  flattened(): Promise<void> {
    return this.#flattener.settled();
  }

  close(): Promise<void> {
    return this.#flattener.close();
  }

  async list(): Promise<readonly Snapshot[]> {
    return this.#store.list().map(asSnapshot);
  }

  async get(id: string): Promise<Snapshot | undefined> {
    const record = this.#store.find(id);
    return record && asSnapshot(record);
  }

  async remove(id: string): Promise<void> {
    await this.#store.remove(id);
  }

  /** The image and the directories above it, the topmost first. Throws an AleError `snapshot-unknown`. */
  layersOf(id: string): Layers {
    const { image, lower } = this.#store.get(id);
    return { image, layers: lower.map((layer) => this.#host.layers.at(layer).upper) };
  }

  /** Throws an AleError: `sandbox-gone`, `snapshot-budget`, `disk-full`; the sandbox then runs on as if nothing had been asked. */
  async take(
    container: RunningContainer,
    shells: Shells,
    options: SnapshotOptions = {},
    signal?: AbortSignal,
  ): Promise<SnapshotResult> {
    signal?.throwIfAborted();
    if (container.ended) throw goneError(container.id);
    this.#refuseIfOver(container);
    const id = `sn-${Date.now().toString(36)}${randomBytes(5).toString("hex")}`;
    return options.processes === "keep"
      ? this.#copy(container, { id, shells, options }, signal)
      : this.#seal(container, { id, shells, options });
  }

  async #seal(container: RunningContainer, taking: Taking): Promise<SnapshotResult> {
    const { id, shells } = taking;
    const { layers } = this.#host;
    const fresh = layers.fresh();
    layers.hold(id, [fresh.id]);
    const running = container.stats().pids;
    let record: SnapshotRecord | undefined;
    let states: readonly ShellState[] = [];
    try {
      await container.restart({
        prepare: async () => {
          const capture = shells.capture();
          await makeLayer(fresh, container.spec.limits);
          states = await capture;
        },
        resume: () => shells.resume(states),
        change: async () => {
          const { state } = container;
          sealLayer(layers.at(state.layer));
          record = this.#record(taking, state, {
            lower: [state.layer, ...this.#flattener.shortened(state.lower)],
            states,
          });
          this.#store.put(record);
          return { lower: record.lower, layer: fresh.id, snapshot: id };
        },
      });
      this.#flattener.consider(id);
      return { snapshot: asSnapshot(record!), processes: running === 0 ? "none" : "lost" };
    } catch (error) {
      if (record !== undefined) await this.#store.remove(id);
      else await layers.release(id);
      throw error;
    } finally {
      // Where the restart did not come to it, nobody else holds it.
      await layers.removeUnheld([fresh.id]);
    }
  }

  /** What runs is stopped in its tracks and goes on as if nothing had happened; the price is a copy. */
  async #copy(container: RunningContainer, taking: Taking, signal?: AbortSignal): Promise<SnapshotResult> {
    const { id, shells } = taking;
    const { layers, cgroups } = this.#host;
    const copy = layers.fresh();
    layers.hold(id, [copy.id]);
    try {
      const record = await container.undisturbed(async () => {
        const { state } = container;
        const states = await shells.capture();
        await makeLayer(copy, container.spec.limits);
        const { upper } = layers.at(state.layer);
        rmdirSync(copy.upper);
        await whileFrozen(cgroups, container.id, () => copyLayer(upper, copy.upper, signal));
        sealLayer(copy);
        const taken = this.#record(taking, state, { lower: [copy.id, ...state.lower], states });
        this.#store.put(taken);
        return taken;
      });
      this.#flattener.consider(id);
      return { snapshot: asSnapshot(record), processes: "kept" };
    } catch (error) {
      await layers.release(id);
      await removeLayer(copy);
      throw error;
    }
  }

  #record(
    { id, options }: Taking,
    state: SandboxState,
    taken: { readonly lower: readonly string[]; readonly states: readonly ShellState[] },
  ): SnapshotRecord {
    const { lower, states } = taken;
    const { diskBytes, diskInodes } = usageOf(this.#host.layers.at(lower[0]!));
    return {
      id,
      image: state.image,
      spec: state.spec,
      lower,
      parent: state.snapshot,
      sandbox: state.id,
      createdAtMs: Date.now(),
      labels: { ...options.labels },
      bytes: diskBytes ?? 0,
      inodes: diskInodes ?? 0,
      shells: states,
    };
  }

  /** Before anything is ended for it. */
  #refuseIfOver(container: RunningContainer): void {
    const mib = (bytes: number): number => Math.ceil(bytes / 2 ** 20);
    const wanted = container.stats().diskBytes ?? 0;
    const used = this.#store.bytes;
    if (used + wanted > this.#budgetBytes)
      throw new AleError(
        "snapshot-budget",
        `a snapshot of ${mib(wanted)} MiB does not fit: snapshots take ${mib(used)} of ${mib(this.#budgetBytes)} MiB`,
        { next: "remove snapshots, or raise the driver's `snapshotBytes`" },
      );
    const { bavail, bsize } = statfsSync(this.#host.space);
    if (bavail * bsize < RESERVE_BYTES)
      throw new AleError("disk-full", "no room on the host for the record of another snapshot", {
        next: "free some disk space below ALE_HOME",
      });
  }

  /** Throws an AleError: `snapshot-unknown`, `snapshot-foreign`, `sandbox-gone`. */
  async revert(container: RunningContainer, shells: Shells, id: string, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { layers } = this.#host;
    const record = this.#store.get(id);
    if (record.image.digest !== container.state.image.digest)
      throw new AleError("snapshot-foreign", `snapshot ${id} is not one of the image of ${container.id}`, {
        next: "fork the snapshot instead",
      });
    const fresh = layers.fresh();
    // The layers are held also if the snapshot is removed meanwhile.
    const holder = `revert ${fresh.id}`;
    layers.hold(holder, [fresh.id, ...record.lower]);
    try {
      await container.restart({
        prepare: () => makeLayer(fresh, container.spec.limits),
        change: async () => ({ lower: record.lower, layer: fresh.id, snapshot: id }),
        resume: () => shells.resume(record.shells),
      });
    } finally {
      await layers.release(holder);
    }
  }

  async fork(
    id: string,
    count: number,
    options: ForkOptions = {},
    signal?: AbortSignal,
  ): Promise<readonly Sandbox[]> {
    if (!Number.isSafeInteger(count) || count < 0)
      throw new AleError("fork-count", `${count} is no number of forks`, { next: "ask for 0 or more" });
    const record = this.#store.get(id);
    const attempts = await Promise.allSettled(
      Array.from({ length: count }, () => this.#createAbove(record, options, signal)),
    );
    const failed = attempts.find((attempt) => attempt.status === "rejected");
    const made = attempts.flatMap((attempt) => (attempt.status === "fulfilled" ? [attempt.value] : []));
    if (failed === undefined) return made;
    await Promise.all(made.map((sandbox) => sandbox.destroy()));
    throw failed.reason;
  }

  async diff(from: string | null, to: string): Promise<readonly DiffEntry[]> {
    const target = this.#store.get(to);
    const source = from === null ? { image: target.image, lower: [] } : this.#store.get(from);
    const stack = (of: Pick<SnapshotRecord, "image" | "lower">): string[] => [
      ...of.lower.map((layer) => this.#host.layers.at(layer).upper),
      ...of.image.layers,
    ];
    // Removed meanwhile, the snapshots' layers stay until they have been read.
    const holder = `diff ${randomBytes(6).toString("hex")}`;
    this.#host.layers.hold(holder, [...source.lower, ...target.lower]);
    try {
      return await diffStacks(stack(source), stack(target));
    } finally {
      await this.#host.layers.release(holder);
    }
  }
}

const goneError = (id: string): AleError =>
  new AleError("sandbox-gone", `sandbox ${id} has ended`, { next: "create a new sandbox" });
