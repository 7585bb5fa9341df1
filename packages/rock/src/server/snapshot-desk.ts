import { type Limits, policyAfter } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import type { Sandbox } from "../port/sandbox.ts";
import type { DiffEntry, ForkOptions, Snapshot, SnapshotOptions, SnapshotResult } from "../port/snapshot.ts";
import type { Admission } from "./admission.ts";
import { blank, type Ledger } from "./ledger.ts";
import { type NetworkBounds, refuseBeyond } from "./network-bounds.ts";
import type { SandboxRecord } from "./record.ts";
import {
  inheritedBy,
  labelsForSnapshot,
  ownLabels,
  snapshotOf,
  snapshotsOf,
  withTenant,
} from "./tenant-snapshots.ts";

/** Snapshots and forks of a service, each tenant's own. */

/** Limits that are not named are those of the sandbox that the snapshot was taken of. */
export type ForkChanges = Omit<ForkOptions, "limits"> & { readonly limits?: Partial<Limits> };

export interface SnapshotDeskOptions {
  readonly driver: SandboxDriver;
  readonly ledger: Ledger;
  readonly admission: Admission;
  readonly network: NetworkBounds;
  /** The running sandbox; throws where there is none. */
  readonly use: (tenant: string, id: string, signal?: AbortSignal) => Promise<Sandbox>;
  readonly now: () => number;
}

export class SnapshotDesk {
  readonly #options: SnapshotDeskOptions;

  constructor(options: SnapshotDeskOptions) {
    this.#options = options;
  }

  async take(
    tenant: string,
    id: string,
    options: SnapshotOptions,
    signal?: AbortSignal,
  ): Promise<SnapshotResult> {
    const { use, admission, ledger } = this.#options;
    const sandbox = await use(tenant, id, signal);
    const labels = labelsForSnapshot(tenant, sandbox.spec, options.labels);
    const result = await ledger.entry(tenant, id).alone(async () => {
      await admission.admitSnapshot(tenant, sandbox);
      return sandbox.snapshot({ ...options, labels }, signal);
    });
    return { ...result, snapshot: { ...result.snapshot, labels: ownLabels(result.snapshot.labels) } };
  }

  list(tenant: string): Promise<readonly Snapshot[]> {
    return snapshotsOf(this.#options.driver, tenant);
  }

  get(tenant: string, snapshot: string): Promise<Snapshot> {
    return snapshotOf(this.#options.driver, tenant, snapshot);
  }

  async remove(tenant: string, snapshot: string): Promise<void> {
    const { driver } = this.#options;
    await snapshotOf(driver, tenant, snapshot);
    await driver.snapshots.remove(snapshot);
  }

  async fork(
    tenant: string,
    snapshot: string,
    count: number,
    options: ForkChanges,
    signal?: AbortSignal,
  ): Promise<SandboxRecord[]> {
    const { driver, admission } = this.#options;
    const source = await snapshotOf(driver, tenant, snapshot);
    const labels = withTenant(tenant, { ...source.labels, ...options.labels });
    const inherited = await inheritedBy(driver, snapshot);
    const limits = { ...inherited.limits, ...options.limits };
    const network = policyAfter(options.network, inherited.network);
    refuseBeyond(this.#options.network, network);
    using _reserved = admission.reserve(tenant, limits, count);
    const forks = await driver.snapshots.fork(
      snapshot,
      count,
      { ...options, limits, network, labels },
      signal,
    );
    try {
      return forks.map((sandbox) => this.#enter(tenant, sandbox, snapshot));
    } catch (error) {
      await Promise.all(forks.map((sandbox) => sandbox.destroy()));
      throw error;
    }
  }

  async diff(tenant: string, from: string | null, to: string): Promise<readonly DiffEntry[]> {
    const { driver } = this.#options;
    await snapshotOf(driver, tenant, to);
    if (from !== null) await snapshotOf(driver, tenant, from);
    return driver.snapshots.diff(from, to);
  }

  async revert(tenant: string, id: string, snapshot: string, signal?: AbortSignal): Promise<void> {
    const { driver, ledger, use } = this.#options;
    const sandbox = await use(tenant, id, signal);
    await snapshotOf(driver, tenant, snapshot);
    await ledger.entry(tenant, id).alone(() => sandbox.revert(snapshot, signal));
  }

  #enter(tenant: string, sandbox: Sandbox, snapshot: string): SandboxRecord {
    const { ledger, now } = this.#options;
    const born = { from: null, to: "pending" as const, event: "fork", atMs: now() };
    const entry = ledger.enter({ ...blank(tenant, sandbox.id, sandbox.spec, born), snapshot });
    ledger.started(entry, "fork", sandbox);
    return entry.record;
  }
}
