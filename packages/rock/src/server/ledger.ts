import { AleError } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import { isDurable } from "../port/durable.ts";
import type { EndReason, Sandbox, SandboxSpec } from "../port/sandbox.ts";
import { Entry } from "./entry.ts";
import {
  become,
  type Failure,
  isLive,
  PENDING_PHASES,
  type PhaseStatus,
  type Phases,
  type SandboxRecord,
  type SandboxState,
  type Transition,
  withPhase,
} from "./record.ts";
import type { RecordStore } from "./record-store.ts";
import { tenantOf } from "./tenant-snapshots.ts";

/**
 * The book of a server's sandboxes: every change of state is written down before anybody is told. Knows how a sandbox comes up and how it
 * ends by itself; who may ask for what is the service's business.
 */

export interface LedgerOptions {
  readonly driver: SandboxDriver;
  readonly store: RecordStore;
  readonly ensureImage?: (
    image: string,
    progress: (message: string) => void,
    signal: AbortSignal,
  ) => Promise<void>;
  readonly onTransition?: (record: SandboxRecord, transition: Transition) => void;
  /** Called when a stopped sandbox's time to be deleted has come. */
  readonly expire: (record: SandboxRecord) => void;
  readonly now: () => number;
}

/** Ended sandboxes remembered per tenant, so that their end can still be asked for. */
const REMEMBERED = 1_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Ledger {
  readonly #options: LedgerOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #timers = new Map<string, NodeJS.Timeout>();

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  /** Throws an AleError `sandbox-unknown`, also where it is another tenant's. */
  entry(tenant: string, id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.record.tenant !== tenant)
      throw new AleError("sandbox-unknown", `there is no sandbox ${id}`, { next: "list the sandboxes" });
    return entry;
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  *records(tenant?: string): Generator<SandboxRecord> {
    for (const { record } of this.#entries.values())
      if (tenant === undefined || record.tenant === tenant) yield record;
  }

  enter(record: SandboxRecord): Entry {
    this.#options.store.save(record);
    const entry = new Entry(record);
    this.#entries.set(record.id, entry);
    this.#tell(record);
    return entry;
  }

  move(entry: Entry, to: SandboxState, event: string, more: Partial<SandboxRecord> = {}): void {
    const record = become(entry.record, to, event, this.#options.now(), more);
    this.#options.store.save(record);
    clearTimeout(this.#timers.get(record.id));
    this.#timers.delete(record.id);
    if (to !== "running") entry.sandbox = undefined;
    entry.record = record;
    this.#tell(record);
    if (to === "stopped") this.#expireLater(record);
    if (to === "deleted" || to === "failed") this.#forgetOldest(record.tenant);
  }

  /** What has happened has happened, whether or not the disk takes it. The next start finds out by itself. */
  moveAnyway(entry: Entry, to: SandboxState, event: string, more: Partial<SandboxRecord> = {}): void {
    try {
      this.move(entry, to, event, more);
    } catch {
      entry.sandbox = undefined;
      entry.record = become(entry.record, to, event, this.#options.now(), more);
      this.#tell(entry.record);
    }
  }

  /** Something about it is another now; its state is not. */
  note(entry: Entry, more: Pick<SandboxRecord, "spec">): void {
    const record = { ...entry.record, ...more };
    this.#options.store.save(record);
    entry.record = record;
  }

  /** In the background: the image, then the start. Whatever goes wrong becomes part of the record. */
  bringUp(entry: Entry, event: string, start: (signal: AbortSignal) => Promise<Sandbox>): void {
    entry.begin(async (signal) => {
      try {
        await this.#image(entry, signal);
        this.#phase(entry, "start", "running");
        const sandbox = await start(signal);
        this.started(entry, event, sandbox);
      } catch (cause) {
        this.#failed(entry, cause);
      }
    });
  }

  started(entry: Entry, event: string, sandbox: Sandbox): void {
    this.#phase(entry, "image", "success");
    this.#phase(entry, "start", "success");
    const spec: SandboxSpec = { ...entry.record.spec, files: [] };
    entry.sandbox = sandbox;
    try {
      this.move(entry, "running", event, { driverId: sandbox.id, spec });
    } catch (error) {
      entry.sandbox = undefined;
      void sandbox.destroy();
      throw error;
    }
    void sandbox.ended.then((reason) => this.#endedByItself(entry, sandbox, reason));
  }

  /** What an earlier server left. Its processes are gone; its files are there where the driver keeps them. */
  async adopt(): Promise<void> {
    const { driver, store, now } = this.#options;
    const { records } = store.load();
    const kept = new Map(
      isDurable(driver) ? (await driver.stopped()).map((stopped) => [stopped.id, stopped]) : [],
    );
    for (const record of records) {
      const entry = new Entry(record);
      this.#entries.set(record.id, entry);
      const hasFiles = kept.delete(record.driverId ?? record.id);
      if (isLive(record) && hasFiles) this.move(entry, "stopped", "adopt", { endReason: "lost" });
      else if (isLive(record) || (record.state === "stopped" && !hasFiles))
        this.move(entry, "deleted", "adopt", { endReason: "lost" });
      else if (record.state === "stopped") this.#expireLater(record);
    }
    for (const { id, spec, createdAtMs } of kept.values()) {
      const tenant = tenantOf(spec.labels);
      if (tenant === undefined) continue;
      const born: Transition = { from: null, to: "stopped", event: "adopt", atMs: now() };
      this.enter({ ...blank(tenant, id, spec, born), driverId: id, createdAtMs, endReason: "lost" });
    }
  }

  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  async #image(entry: Entry, signal: AbortSignal): Promise<void> {
    const { ensureImage } = this.#options;
    this.#phase(entry, "image", "running");
    await ensureImage?.(
      entry.record.spec.image,
      (message) => this.#phase(entry, "image", "running", message),
      signal,
    );
    signal.throwIfAborted();
    if (ensureImage !== undefined) this.#phase(entry, "image", "success");
  }

  /** Phases are written down with the next change of state only: they mean nothing after a crash. */
  #phase(entry: Entry, name: keyof Phases, status: PhaseStatus, message = ""): void {
    if (entry.record.phases[name].status === status && message === "") return;
    entry.record = withPhase(entry.record, name, status, this.#options.now(), message);
  }

  #failed(entry: Entry, cause: unknown): void {
    const failure = failureOf(cause);
    const { phases, history } = entry.record;
    const atImage = failure.code.startsWith("image-") || phases.start.status === "waiting";
    this.#phase(entry, atImage ? "image" : "start", "failed", failure.message);
    if (!atImage) this.#phase(entry, "image", "success");
    // A restart that failed leaves the files where they were. Of a network that no sandbox can have here there is nothing to look into.
    const refused = failure.code === "network-unsupported" ? "deleted" : "failed";
    const to = history.some(({ to }) => to === "stopped") ? "stopped" : refused;
    this.moveAnyway(entry, to, "start-failed", { failure });
  }

  /** Records an end that happened while a request was about to end it, and then did not. */
  notice(entry: Entry): void {
    const { sandbox } = entry;
    if (sandbox?.endReason !== undefined) this.#endedByItself(entry, sandbox, sandbox.endReason);
  }

  #endedByItself(entry: Entry, sandbox: Sandbox, reason: EndReason): void {
    if (entry.sandbox !== sandbox || entry.ending) return;
    const kept = isDurable(this.#options.driver) && reason !== "destroyed";
    this.moveAnyway(entry, kept ? "stopped" : "deleted", reason, { endReason: reason });
  }

  #expireLater(record: SandboxRecord): void {
    if (record.deleteAfterStopMs === null) return;
    const at = (record.endedAtMs ?? 0) + record.deleteAfterStopMs;
    const timer = setTimeout(
      () => (this.#options.now() < at ? this.#expireLater(record) : this.#options.expire(record)),
      Math.min(Math.max(0, at - this.#options.now()), LONGEST_TIMER_MS),
    );
    timer.unref();
    this.#timers.set(record.id, timer);
  }

  #forgetOldest(tenant: string): void {
    const over = [...this.records(tenant)].filter(({ state }) => state === "deleted" || state === "failed");
    for (const { id } of over.slice(0, Math.max(0, over.length - REMEMBERED))) {
      this.#entries.delete(id);
      this.#options.store.remove(id);
    }
  }

  #tell(record: SandboxRecord): void {
    this.#options.onTransition?.(record, record.history.at(-1)!);
  }
}

export function blank(tenant: string, id: string, spec: SandboxSpec, born: Transition): SandboxRecord {
  return {
    id,
    driverId: null,
    tenant,
    spec,
    state: born.to,
    phases: PENDING_PHASES,
    createdAtMs: born.atMs,
    startedAtMs: null,
    endedAtMs: null,
    endReason: null,
    failure: null,
    history: [born],
    snapshot: null,
    deleteAfterStopMs: null,
    notes: {},
    idempotency: null,
  };
}

function failureOf(cause: unknown): Failure {
  const { message } = cause as Error;
  const known = cause instanceof AleError;
  return {
    code: known ? cause.code : "start-failed",
    message,
    next: known ? (cause.next ?? null) : null,
  };
}
