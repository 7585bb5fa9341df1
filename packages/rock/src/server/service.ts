import { randomBytes } from "node:crypto";
import { AleError, type Limits } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import { type DurableDriver, isDurable } from "../port/durable.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { DiffEntry, ForkOptions, Snapshot, SnapshotOptions, SnapshotResult } from "../port/snapshot.ts";
import { blank, Ledger } from "./ledger.ts";
import { refuseForeignImage } from "./private-images.ts";
import {
  DEFAULT_QUOTA,
  type HostLimits,
  hostLimits,
  MinuteWindow,
  type Quota,
  quotaExceeded,
  refuseAboveHost,
  refuseAboveQuota,
  type Usage,
  usageOf,
} from "./quota.ts";
import { isLive, PENDING_PHASES, type SandboxRecord, type SandboxState, type Transition } from "./record.ts";
import { RecordStore } from "./record-store.ts";
import type { SessionRegistry } from "./session-registry.ts";
import {
  forkLimits,
  type Labels,
  labelsForSnapshot,
  ownLabels,
  snapshotOf,
  snapshotsOf,
  withTenant,
} from "./tenant-snapshots.ts";

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

const ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
const SHOWN: readonly SandboxState[] = ["pending", "running", "stopped", "failed"];
export class SandboxService implements AsyncDisposable {
  readonly driver: SandboxDriver;
  readonly #options: SandboxServiceOptions;
  readonly #ledger: Ledger;
  readonly #windows = new Map<string, MinuteWindow>();
  /** Forks under way: they have no record yet, but count. */
  readonly #reserved = new Set<SandboxRecord>();
  #closed = false;

  private constructor(options: SandboxServiceOptions) {
    this.driver = options.driver;
    this.#options = options;
    this.#ledger = new Ledger({
      ...options,
      store: new RecordStore(options.directory),
      expire: ({ tenant, id }) => void this.delete(tenant, id).catch(() => undefined),
      now: () => this.#now(),
    });
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
    const known = this.#sameRequest(tenant, request);
    if (known !== undefined) return known;
    const { id = freshId(), ...spec } = request.spec;
    refuseForeignImage(tenant, spec.image);
    this.#refuseId(id);
    const labels = withTenant(tenant, spec.labels);
    refuseAboveHost(spec.limits, this.#options.host ?? hostLimits());
    this.#admit(tenant, spec.limits, 1);
    const entry = this.#ledger.enter({
      ...this.#blank(tenant, id, { ...spec, labels }, "pending", "create"),
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
    const reserved = [...this.#reserved].filter((record) => record.tenant === tenant);
    return usageOf([...this.#ledger.records(tenant), ...reserved]);
  }

  quota(tenant: string): Quota {
    return this.#options.quota?.(tenant) ?? DEFAULT_QUOTA;
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
      const driver = this.#durable("stop");
      if (record.state !== "running") throw notRunning(record);
      entry.ending = true;
      try {
        await driver.stop(driverIdOf(record));
        this.#ledger.move(entry, "stopped", "stop", { endReason: "stopped" });
      } finally {
        entry.ending = false;
      }
      return entry.record;
    });
  }

  /** Starts a stopped sandbox with its files. Goes on in the background, as `create` does. */
  restart(tenant: string, id: string): Promise<SandboxRecord> {
    this.#refuseIfClosed();
    const entry = this.#ledger.entry(tenant, id);
    return entry.alone(async () => {
      const { record } = entry;
      const driver = this.#durable("restart");
      if (record.state !== "stopped")
        throw new AleError(
          "sandbox-not-stopped",
          `${id} cannot be restarted: its current state is '${record.state}'`,
          {
            next: isLive(record) ? "stop it first" : "create a new sandbox",
          },
        );
      this.#admit(tenant, record.spec.limits, 1, true);
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
      entry.ending = true;
      try {
        if (sandbox !== undefined) await sandbox.destroy();
        else if (record.state === "stopped") await this.#durable("delete").remove(driverIdOf(record));
        this.#ledger.move(entry, "deleted", "delete", { endReason: record.endReason ?? "destroyed" });
      } finally {
        entry.ending = false;
      }
      return entry.record;
    });
  }

  async snapshot(
    tenant: string,
    id: string,
    options: SnapshotOptions = {},
    signal?: AbortSignal,
  ): Promise<SnapshotResult> {
    const sandbox = await this.use(tenant, id, signal);
    const labels = labelsForSnapshot(tenant, sandbox.spec.limits, options.labels);
    await this.#admitSnapshot(tenant, sandbox);
    const result = await this.#ledger
      .entry(tenant, id)
      .alone(() => sandbox.snapshot({ ...options, labels }, signal));
    return { ...result, snapshot: { ...result.snapshot, labels: ownLabels(result.snapshot.labels) } };
  }

  snapshots(tenant: string): Promise<readonly Snapshot[]> {
    return snapshotsOf(this.driver, tenant);
  }

  getSnapshot(tenant: string, snapshot: string): Promise<Snapshot> {
    return snapshotOf(this.driver, tenant, snapshot);
  }

  async removeSnapshot(tenant: string, snapshot: string): Promise<void> {
    await snapshotOf(this.driver, tenant, snapshot);
    await this.driver.snapshots.remove(snapshot);
  }

  /** `count` running sandboxes that begin where the snapshot was taken. On failure none is left. */
  async fork(
    tenant: string,
    snapshot: string,
    count: number,
    options: ForkOptions = {},
    signal?: AbortSignal,
  ): Promise<SandboxRecord[]> {
    this.#refuseIfClosed();
    const source = await snapshotOf(this.driver, tenant, snapshot);
    const labels = withTenant(tenant, { ...source.labels, ...options.labels });
    const limits = options.limits ?? (await forkLimits(this.driver, snapshot));
    refuseAboveHost(limits, this.#options.host ?? hostLimits());
    this.#admit(tenant, limits, count);
    const { image } = source;
    const spec: SandboxSpec = { image, files: [], limits, network: { mode: "none" } };
    const reserved = Array.from({ length: count }, () => this.#blank(tenant, "", spec, "pending", "fork"));
    for (const record of reserved) this.#reserved.add(record);
    try {
      const forks = await this.driver.snapshots.fork(snapshot, count, { ...options, limits, labels }, signal);
      return forks.map((sandbox) => this.#enterFork(tenant, sandbox, snapshot));
    } finally {
      for (const record of reserved) this.#reserved.delete(record);
    }
  }

  async diff(tenant: string, from: string | null, to: string): Promise<readonly DiffEntry[]> {
    await snapshotOf(this.driver, tenant, to);
    if (from !== null) await snapshotOf(this.driver, tenant, from);
    return this.driver.snapshots.diff(from, to);
  }

  async revert(tenant: string, id: string, snapshot: string, signal?: AbortSignal): Promise<void> {
    const sandbox = await this.use(tenant, id, signal);
    await snapshotOf(this.driver, tenant, snapshot);
    await this.#ledger.entry(tenant, id).alone(() => sandbox.revert(snapshot, signal));
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

  #enterFork(tenant: string, sandbox: Sandbox, snapshot: string): SandboxRecord {
    const pending = this.#blank(tenant, sandbox.id, sandbox.spec, "pending", "fork");
    const entry = this.#ledger.enter({ ...pending, snapshot });
    this.#ledger.started(entry, "fork", sandbox);
    return entry.record;
  }

  #blank(tenant: string, id: string, spec: SandboxSpec, to: SandboxState, event: string): SandboxRecord {
    return blank(tenant, id, spec, { from: null, to, event, atMs: this.#now() });
  }

  #sameRequest(tenant: string, request: CreateRequest): SandboxRecord | undefined {
    const { idempotency } = request;
    if (idempotency === undefined) return undefined;
    const known = this.#ledger
      .records(tenant)
      .find(({ idempotency: earlier }) => earlier?.key === idempotency.key);
    if (known !== undefined && known.idempotency?.digest !== idempotency.digest)
      throw new AleError("idempotency-conflict", "the idempotency key was used for another request", {
        next: "use a fresh key for each request",
      });
    return known;
  }

  #refuseId(id: string): void {
    if (!ID.test(id))
      throw new AleError("id-invalid", `${JSON.stringify(id.slice(0, 80))} cannot be a sandbox's id`, {
        next: "use 1 to 63 lower-case letters, digits and hyphens, the first one no hyphen",
      });
    if (this.#ledger.has(id))
      throw new AleError("id-taken", `the id ${id} is taken`, { next: "choose another id" });
  }

  #admit(tenant: string, limits: Limits, count: number, resume = false): void {
    const quota = this.quota(tenant);
    refuseAboveQuota(this.usage(tenant), quota, limits, count, resume);
    const window = this.#windows.get(tenant) ?? new MinuteWindow();
    this.#windows.set(tenant, window);
    const now = this.#now();
    if (window.take(count, quota.creationsPerMinute, now)) return;
    throw new AleError("too-many-creations", `more than ${quota.creationsPerMinute} creations in a minute`, {
      next: `try again in ${Math.ceil(window.waitMs(now) / 1_000)} s`,
    });
  }

  /** A snapshot is at most as large as what the sandbox has written. */
  async #admitSnapshot(tenant: string, sandbox: Sandbox): Promise<void> {
    const own = await this.snapshots(tenant);
    const used = own.reduce((sum, { bytes }) => sum + bytes, 0);
    const asked = (await sandbox.stats()).diskBytes ?? sandbox.spec.limits.diskBytes;
    const quota = this.quota(tenant).snapshotBytes;
    if (used + asked > quota) throw quotaExceeded("snapshotBytes", used, asked, quota);
  }

  #durable(what: string): DurableDriver {
    if (isDurable(this.driver)) return this.driver;
    throw new AleError(
      "not-durable",
      `${what}: this server's driver cannot keep the files of a sandbox that stopped`,
      {
        next: "delete the sandbox instead",
      },
    );
  }

  #refuseIfClosed(): void {
    if (this.#closed)
      throw new AleError("server-closing", "the server is shutting down", { next: "try again later" });
  }

  #now(): number {
    return this.#options.now?.() ?? Date.now();
  }
}

const driverIdOf = (record: SandboxRecord): string => record.driverId ?? record.id;

const freshId = (): string => `sb-${Date.now().toString(36)}${randomBytes(5).toString("hex")}`;

function notRunning(record: SandboxRecord): AleError {
  const why = record.failure?.message ?? record.endReason;
  return new AleError(
    "sandbox-not-running",
    `sandbox ${record.id} is ${record.state}${why ? ` (${why})` : ""}`,
    {
      next: record.state === "stopped" ? "restart it" : "create a new sandbox",
    },
  );
}
