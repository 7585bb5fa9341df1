import { type Telemetry, type TelemetrySource, telemetryNow } from "@ale/core";
import type { Collector, CollectorKind, Observed, ProcessStart } from "./collector.ts";
import { type Pace, Pacing } from "./pacing.ts";
import { livingProcess } from "./proc-facts.ts";

/**
 * Where everything that is seen of a driver's sandboxes comes together, and goes to whoever listens to one of them. Collectors work while
 * anybody listens; without a listener nothing is collected. Owns the collectors.
 */

export type TelemetryListener = (record: Telemetry) => void;

/** How long a count of left-out records waits for a record to travel with. */
const FLUSH_MS = 1_000;

interface Listening {
  readonly tell: TelemetryListener;
  /** Undefined: all. */
  readonly sources: ReadonlySet<TelemetrySource> | undefined;
}

interface Followed {
  readonly sandbox: Observed;
  readonly listeners: Set<Listening>;
  readonly pacing: Pacing;
  /** Records that wait to be completed. */
  readonly pending: Set<Promise<void>>;
}

interface Working {
  readonly collector: Collector;
  /** Sandboxes that it follows. */
  readonly following: Set<string>;
}

export class TelemetryHub implements Disposable {
  readonly #kinds: () => readonly CollectorKind[];
  readonly #pace: Pace | undefined;
  readonly #followed = new Map<string, Followed>();
  /** What this host can have, while anybody listens. */
  #there: readonly CollectorKind[] = [];
  readonly #working = new Map<CollectorKind, Working>();
  #timer: NodeJS.Timeout | undefined;

  /** `kinds`: those that this host can have, asked for when the first listener comes. */
  constructor(kinds: () => readonly CollectorKind[], pace?: Pace) {
    this.#kinds = kinds;
    this.#pace = pace;
  }

  /** A listener that throws is a bug; the others are told all the same. What only others want to hear is not told to it. */
  listen(sandbox: Observed, tell: TelemetryListener, sources?: readonly TelemetrySource[]): Disposable {
    const followed = this.#followed.get(sandbox.id) ?? this.#begin(sandbox);
    const listening: Listening = { tell, sources: sources && new Set(sources) };
    followed.listeners.add(listening);
    for (const kind of this.#there) if (wants(listening, kind)) this.#follow(kind, sandbox);
    return { [Symbol.dispose]: () => this.#leave(sandbox.id, followed, listening) };
  }

  #begin(sandbox: Observed): Followed {
    const listeners = new Set<Listening>();
    const pending = new Set<Promise<void>>();
    const followed = { sandbox, listeners, pending, pacing: new Pacing(this.#pace) };
    this.#followed.set(sandbox.id, followed);
    if (this.#followed.size > 1) return followed;
    this.#there = this.#kinds();
    this.#timer = setInterval(() => this.#flushAll(), FLUSH_MS).unref();
    return followed;
  }

  #follow(kind: CollectorKind, sandbox: Observed): void {
    const working = this.#working.get(kind) ?? this.#start(kind);
    if (working === undefined || working.following.has(sandbox.id)) return;
    working.following.add(sandbox.id);
    working.collector.follow(sandbox);
  }

  #start(kind: CollectorKind): Working | undefined {
    try {
      const working = { collector: kind.start((record) => this.tell(record)), following: new Set<string>() };
      this.#working.set(kind, working);
      return working;
    } catch {
      // It was there when the host was looked at; what does not work now is missing from the stream, not a fault of the listener.
      this.#there = this.#there.filter((other) => other !== kind);
      return undefined;
    }
  }

  #leave(id: string, followed: Followed, listening: Listening): void {
    if (!followed.listeners.delete(listening) || this.#followed.get(id) !== followed) return;
    if (followed.listeners.size === 0) this.#followed.delete(id);
    for (const [kind, { collector, following }] of this.#working) {
      if (!following.has(id) || [...followed.listeners].some((other) => wants(other, kind))) continue;
      following.delete(id);
      collector.forget(id);
      if (following.size > 0) continue;
      this.#working.delete(kind);
      collector[Symbol.dispose]();
    }
    if (this.#followed.size === 0) this.#stop();
  }

  #stop(): void {
    clearInterval(this.#timer);
    for (const { collector } of this.#working.values()) collector[Symbol.dispose]();
    this.#working.clear();
  }

  get #collectors(): readonly Collector[] {
    return [...this.#working.values()].map(({ collector }) => collector);
  }

  /** Anybody may tell of a sandbox; where nobody listens to it, it costs a look into a map. */
  tell(record: Telemetry): void {
    const followed = record.sandbox === null ? undefined : this.#followed.get(record.sandbox);
    if (followed === undefined) return;
    const admitted = followed.pacing.admit(record, telemetryNow());
    if (admitted !== undefined) this.#complete(followed, admitted);
  }

  /** What is left out must cost nothing more. */
  #complete(followed: Followed, record: Telemetry): void {
    const helper = canBeCompleted(record)
      ? this.#collectors.find((collector) => collector.enrich !== undefined)
      : undefined;
    if (helper?.enrich === undefined) {
      deliver(followed, withProcess(record));
      return;
    }
    const done = helper.enrich(record).then(
      (completed) => deliver(followed, withProcess(completed)),
      () => deliver(followed, record),
    );
    followed.pending.add(done);
    void done.finally(() => followed.pending.delete(done));
  }

  /** Resolves when everything that happened in a sandbox before the call was told, as far as there is anybody to tell. */
  async drain(id: string): Promise<void> {
    const followed = this.#followed.get(id);
    if (followed === undefined) return;
    const following = [...this.#working.values()].filter((working) => working.following.has(id));
    await Promise.all(following.map(({ collector }) => collector.drain(id)));
    await Promise.all(followed.pending);
    this.#flush(followed);
    await Promise.all(followed.pending);
  }

  /** What `work` does to the sandbox from outside is not told as the sandbox's doing. */
  unseen<T>(id: string, work: () => Promise<T>): Promise<T> {
    const helper = this.#collectors.find((collector) => collector.unseen !== undefined);
    return helper?.unseen === undefined || !this.#followed.has(id) ? work() : helper.unseen(id, work);
  }

  #flushAll(): void {
    for (const followed of this.#followed.values()) this.#flush(followed);
  }

  #flush(followed: Followed): void {
    for (const record of followed.pacing.flush()) this.#complete(followed, record);
  }

  /** Ends all collecting. Listeners are told nothing more. */
  [Symbol.dispose](): void {
    this.#followed.clear();
    this.#stop();
  }
}

const wants = ({ sources }: Listening, kind: CollectorKind): boolean =>
  sources === undefined || kind.sources.some((source) => sources.has(source));

/** Who did it, or when that one began, may be known to another collector. */
const canBeCompleted = ({ source, process, net }: Telemetry): boolean =>
  source !== "tracefs" && (process !== undefined || net?.protocol === "tcp");

/** Where nobody else knows when the process began, it may still be asked. */
function withProcess(record: Telemetry): Telemetry {
  const { process } = record;
  if (process === undefined || process.startedAt !== undefined) return record;
  const { startedAt, lineage, ancestry } = livingProcess(process.pid);
  if (startedAt === undefined || lineage === undefined || startedAt > record.at) return record;
  return { ...record, process: { ancestry: ancestry ?? [], ...process, startedAt, lineage } };
}

/** The kernel's trace tells a start exactly, /proc in ticks of 10 ms. */
const SAME_START_MS = 20;

/** Says which of its ancestors, or itself, is a session's shell. */
function withShell(record: Telemetry, shells: readonly ProcessStart[]): Telemetry {
  const { process } = record;
  if (process === undefined) return record;
  const shell = [process, ...(process.lineage ?? [])].find(({ pid, startedAt }) =>
    shells.some((one) => one.pid === pid && Math.abs(one.startedAt - (startedAt ?? 0)) <= SAME_START_MS),
  );
  return shell === undefined ? record : { ...record, process: { ...process, shell: shell.pid } };
}

function deliver({ sandbox, listeners }: Followed, completed: Telemetry): void {
  const record = withShell(completed, sandbox.shells());
  for (const { tell, sources } of listeners) {
    if (sources?.has(record.source) === false) continue;
    try {
      tell(record);
    } catch (bug) {
      queueMicrotask(() => {
        throw bug;
      });
    }
  }
}
