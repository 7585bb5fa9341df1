import { randomBytes } from "node:crypto";
import { AleError, type NetworkChange } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import { isDurable } from "../port/durable.ts";
import type { NetworkChangeOptions } from "../port/network.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { DiffEntry, Snapshot, SnapshotOptions, SnapshotResult } from "../port/snapshot.ts";
import type { NetworkView } from "../wire/schemas.ts";
import { Admission } from "./admission.ts";
import type { Entry } from "./entry.ts";
import { blank, Ledger } from "./ledger.ts";
import { DEFAULT_BOUNDS, type NetworkBounds, refuseBeyond } from "./network-bounds.ts";
import { refuseForeignImage } from "./private-images.ts";
import { DEFAULT_QUOTA, type HostLimits, hostLimits, type Quota, type Usage } from "./quota.ts";
import { isLive, PENDING_PHASES, type SandboxRecord, type SandboxState, type Transition } from "./record.ts";
import { RecordStore } from "./record-store.ts";
import { durable, earlierRequest, notRunning, refuseId } from "./service-refusals.ts";
import type { SessionRegistry } from "./session-registry.ts";
import { type ForkChanges, SnapshotDesk } from "./snapshot-desk.ts";
import { type Labels, withTenant } from "./tenant-snapshots.ts";

/**
 * The sandboxes and snapshots of a server: who owns each, which state it is in, what it may use. Every API of the server works on this
 * noun. A tenant sees its own alone: another's is `sandbox-unknown` or `snapshot-unknown`, exactly as one that never was.
 */

export interface SandboxServiceOptions {
  /** Made by the caller, who also closes it, after the service. */
  readonly driver: SandboxDriver;
  /** Where the records are kept. */
  readonly directory: string;
  readonly quota?: (tenant: string) => Quota;
  readonly host?: HostLimits;
  /** What tenants may ask for. Default: neither the mode `open` nor private addresses. */
  readonly network?: NetworkBounds;
  /** Makes an image available before a sandbox starts. Throws an AleError where it cannot. Default: images must be there. */
  readonly ensureImage?: (
    image: string,
    progress: (message: string) => void,
    signal: AbortSignal,
  ) => Promise<void>;
  /** Told of every change of state. Must not throw. */
  readonly onTransition?: (record: SandboxRecord, transition: Transition) => void;
  readonly now?: () => number;
}

export interface CreateRequest {
  /** An `id` in it is the sandbox's. */
  readonly spec: SandboxSpec;
  readonly deleteAfterStopMs?: number;
  readonly notes?: Readonly<Record<string, string>>;
  /** The same key again answers with the same sandbox; `digest` tells whether the request was the same. */
  readonly idempotency?: { readonly key: string; readonly digest: string };
}

export interface ListFilter {
  /** Default: pending, running, stopped and failed ones. */
  readonly states?: readonly SandboxState[];
  /** All of these must be there. */
  readonly labels?: Labels;
}

const SHOWN: readonly SandboxState[] = ["pending", "running", "stopped", "failed"];
export class SandboxService implements AsyncDisposable {
  readonly driver: SandboxDriver;
  readonly network: NetworkBounds;
  readonly #now: () => number;
  readonly #ledger: Ledger;
  readonly #admission: Admission;
  readonly #desk: SnapshotDesk;
  #closed = false;

  private constructor(options: SandboxServiceOptions) {
    this.driver = options.driver;
    const { driver, quota = () => DEFAULT_QUOTA, host = hostLimits(), now = Date.now } = options;
    this.#now = now;
    const network = options.network ?? DEFAULT_BOUNDS;
    this.network = network;
    const ledger = new Ledger({
      ...options,
      store: new RecordStore(options.directory),
      expire: ({ tenant, id }) => void this.delete(tenant, id).catch(() => undefined),
      now,
    });
    this.#ledger = ledger;
    const admission = new Admission({ ledger, driver, quota, host, now });
    this.#admission = admission;
    const use: SandboxService["use"] = (tenant, id, signal) => this.use(tenant, id, signal);
    this.#desk = new SnapshotDesk({ driver, ledger, admission, network, use, now });
  }

  /** Takes up what an earlier server left: its sandboxes are stopped, or gone where their driver could not keep them. */
  static async open(options: SandboxServiceOptions): Promise<SandboxService> {
    const service = new SandboxService(options);
    await service.#ledger.adopt();
    return service;
  }

  /** Starts at once and goes on in the background: `wait` for what becomes of it. */
  create(tenant: string, request: CreateRequest): SandboxRecord {
    this.#refuseIfClosed();
    const known = earlierRequest(this.#ledger.records(tenant), request);
    if (known !== undefined) return known;
    const { id = freshId(), ...spec } = request.spec;
    refuseForeignImage(tenant, spec.image);
    refuseBeyond(this.network, spec.network);
    refuseId(id, this.#ledger.has(id));
    const labels = withTenant(tenant, spec.labels);
    this.#admission.admit(tenant, spec.limits);
    const born = { from: null, to: "pending" as const, event: "create", atMs: this.#now() };
    const entry = this.#ledger.enter({
      ...blank(tenant, id, { ...spec, labels }, born),
      deleteAfterStopMs: request.deleteAfterStopMs ?? null,
      notes: request.notes ?? {},
      idempotency: request.idempotency ?? null,
    });
    const full = { ...spec, id, labels };
    this.#ledger.bringUp(entry, "create", (signal) => this.driver.create(full, signal));
    return entry.record;
  }

  /** Throws an AleError `sandbox-unknown`. */
  get(tenant: string, id: string): SandboxRecord {
    return this.#ledger.entry(tenant, id).record;
  }

  /** Oldest first. */
  list(tenant: string, filter: ListFilter = {}): SandboxRecord[] {
    const { states = SHOWN, labels = {} } = filter;
    const wanted = Object.entries(labels);
    return [...this.#ledger.records(tenant)].filter(
      ({ state, spec }) =>
        states.includes(state) && wanted.every(([key, value]) => spec.labels?.[key] === value),
    );
  }

  /** Of all tenants, for operators. */
  everything(): SandboxRecord[] {
    return [...this.#ledger.records()];
  }

  tenants(): Set<string> {
    return new Set(this.everything().map(({ tenant }) => tenant));
  }

  usage(tenant: string): Usage {
    return this.#admission.usage(tenant);
  }

  quota(tenant: string): Quota {
    return this.#admission.quota(tenant);
  }

  /** Resolves in one of the states, or as it is when the time is over. Default: any that is not pending, within a minute. */
  wait(
    tenant: string,
    id: string,
    options: { readonly states?: readonly SandboxState[]; readonly timeoutMs?: number } = {},
    signal?: AbortSignal,
  ): Promise<SandboxRecord> {
    const { states = ["running", "stopped", "failed", "deleted"], timeoutMs = 60_000 } = options;
    return this.#ledger.entry(tenant, id).wait(states, timeoutMs, signal);
  }

  /** The running sandbox itself, waiting for it while it is pending. Throws `sandbox-unknown` or `sandbox-not-running`. */
  async use(tenant: string, id: string, signal?: AbortSignal): Promise<Sandbox> {
    const entry = this.#ledger.entry(tenant, id);
    if (entry.record.state === "pending") await entry.settled(signal);
    if (entry.sandbox === undefined) throw notRunning(entry.record);
    return entry.sandbox;
  }

  async sessions(tenant: string, id: string, signal?: AbortSignal): Promise<SessionRegistry> {
    await this.use(tenant, id, signal);
    const { sessions, record } = this.#ledger.entry(tenant, id);
    if (sessions === undefined) throw notRunning(record);
    return sessions;
  }

  /** Ends its processes and keeps its files. One that is pending is not started. Stopping a stopped one is no error. */
  stop(tenant: string, id: string): Promise<SandboxRecord> {
    const entry = this.#ledger.entry(tenant, id);
    return entry.alone(async () => {
      const pending = entry.record.state === "pending";
      await entry.abandon();
      const { record } = entry;
      if (record.state === "stopped" || (pending && record.state === "failed")) return record;
      const driver = durable(this.driver, "stop");
      if (record.state !== "running") throw notRunning(record);
      await this.#ending(entry, async () => {
        await driver.stop(driverIdOf(record));
        this.#ledger.move(entry, "stopped", "stop", { endReason: "stopped" });
      });
      return entry.record;
    });
  }

  /** Starts a stopped sandbox with its files. Goes on in the background, as `create` does. Starting one that runs or is about to is no error. */
  restart(tenant: string, id: string): Promise<SandboxRecord> {
    this.#refuseIfClosed();
    const entry = this.#ledger.entry(tenant, id);
    return entry.alone(async () => {
      const { record } = entry;
      if (isLive(record)) return record;
      const driver = durable(this.driver, "restart");
      if (record.state !== "stopped")
        throw new AleError("sandbox-not-stopped", `${id} cannot be started again: it is ${record.state}`, {
          next: "create a new sandbox",
        });
      refuseBeyond(this.network, record.spec.network);
      this.#admission.admit(tenant, record.spec.limits, 1, true);
      const anew = { phases: PENDING_PHASES, failure: null, endReason: null };
      this.#ledger.move(entry, "pending", "restart", anew);
      this.#ledger.bringUp(entry, "restart", (signal) => driver.resume(driverIdOf(record), signal));
      return entry.record;
    });
  }

  /** Ends and forgets it with all its files, whatever its state. Deleting a deleted one is no error. */
  delete(tenant: string, id: string): Promise<SandboxRecord> {
    const entry = this.#ledger.entry(tenant, id);
    return entry.alone(async () => {
      await entry.abandon();
      const { record, sandbox } = entry;
      if (record.state === "deleted") return record;
      await this.#ending(entry, async () => {
        if (sandbox !== undefined) await sandbox.destroy();
        else if (record.state === "stopped") await durable(this.driver, "delete").remove(driverIdOf(record));
        this.#ledger.moveAnyway(entry, "deleted", "delete", { endReason: record.endReason ?? "destroyed" });
      });
      return entry.record;
    });
  }

  /** Of a running sandbox. Throws an AleError: `network-refused`, `network-unsupported`. */
  async setNetwork(
    tenant: string,
    id: string,
    change: NetworkChange,
    options: NetworkChangeOptions = {},
    signal?: AbortSignal,
  ): Promise<SandboxRecord> {
    refuseBeyond(this.network, change);
    const sandbox = await this.use(tenant, id, signal);
    const entry = this.#ledger.entry(tenant, id);
    return entry.alone(async () => {
      await sandbox.setNetwork(change, options, signal);
      this.#ledger.note(entry, { spec: { ...entry.record.spec, network: sandbox.spec.network } });
      return entry.record;
    });
  }

  /** The policy, and what was used of its budgets where the sandbox runs. */
  async networkOf(tenant: string, id: string): Promise<NetworkView> {
    const { record, sandbox } = this.#ledger.entry(tenant, id);
    return { network: record.spec.network, used: (await sandbox?.networkUse()) ?? null };
  }

  snapshot(
    tenant: string,
    id: string,
    options: SnapshotOptions = {},
    signal?: AbortSignal,
  ): Promise<SnapshotResult> {
    return this.#desk.take(tenant, id, options, signal);
  }

  snapshots(tenant: string): Promise<readonly Snapshot[]> {
    return this.#desk.list(tenant);
  }

  /** Throws an AleError `snapshot-unknown`. */
  getSnapshot(tenant: string, snapshot: string): Promise<Snapshot> {
    return this.#desk.get(tenant, snapshot);
  }

  removeSnapshot(tenant: string, snapshot: string): Promise<void> {
    return this.#desk.remove(tenant, snapshot);
  }

  /** `count` running sandboxes that begin where the snapshot was taken. On failure none is left. */
  async fork(
    tenant: string,
    snapshot: string,
    count: number,
    options: ForkChanges = {},
    signal?: AbortSignal,
  ): Promise<SandboxRecord[]> {
    this.#refuseIfClosed();
    return this.#desk.fork(tenant, snapshot, count, options, signal);
  }

  diff(tenant: string, from: string | null, to: string): Promise<readonly DiffEntry[]> {
    return this.#desk.diff(tenant, from, to);
  }

  revert(tenant: string, id: string, snapshot: string, signal?: AbortSignal): Promise<void> {
    return this.#desk.revert(tenant, id, snapshot, signal);
  }

  /** Refuses new work, then stops every sandbox, or destroys it where the driver cannot keep it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#ledger.close();
    const end = (tenant: string, id: string): Promise<SandboxRecord> =>
      isDurable(this.driver) ? this.stop(tenant, id) : this.delete(tenant, id);
    const live = this.everything().filter(isLive);
    await Promise.all(live.map(({ tenant, id }) => end(tenant, id).catch(() => undefined)));
  }

  /** What ends a sandbox also says why; should that fail, its end is nobody's and recorded as such. */
  async #ending(entry: Entry, end: () => Promise<void>): Promise<void> {
    entry.ending = true;
    try {
      await end();
    } finally {
      entry.ending = false;
      this.#ledger.notice(entry);
    }
  }

  #refuseIfClosed(): void {
    if (this.#closed)
      throw new AleError("server-closing", "the server is shutting down", { next: "try again later" });
  }
}

const driverIdOf = (record: SandboxRecord): string => record.driverId ?? record.id;

const freshId = (): string => `sb-${Date.now().toString(36)}${randomBytes(5).toString("hex")}`;
