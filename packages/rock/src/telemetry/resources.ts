import type { Limits, ResourceFigures, Telemetry } from "@ale/core";
import type { SandboxStats } from "../port/sandbox.ts";

/**
 * What one sandbox uses, from its counters: a sample each time they are read, and a record when a limit was hit. How long it has kept the
 * processor busy is part of a sample, with averages over that time, so that a miner's flat line can be told from a build's ups and downs.
 * Pure.
 */

export interface Counters {
  readonly at: number;
  readonly stats: SandboxStats;
  /** Read from and written to disks since the start; undefined where the host does not count that. */
  readonly ioBytes: number | undefined;
  /** Programs started since the start; undefined where nobody counts them. */
  readonly programs: number | undefined;
}

/** From this share of its processors on a sandbox counts as busy. */
const BUSY = 0.7;
/** So full a disk is full for anything that still writes. */
const FULL = 0.99;

export class ResourceWatch {
  readonly #limits: Pick<Limits, "cpus" | "diskBytes" | "outputBytes">;
  #last: Counters;
  /** Since when it has been busy, if it is. */
  #busySince: Counters | undefined;
  #diskWasFull = false;
  #outputTold: number;

  /** `first`: what was before is not told. */
  constructor(limits: Pick<Limits, "cpus" | "diskBytes" | "outputBytes">, first: Counters) {
    this.#limits = limits;
    this.#last = first;
    this.#outputTold = first.stats.outputBytes;
  }

  take(next: Counters): Omit<Telemetry, "sandbox">[] {
    const last = this.#last;
    this.#last = next;
    const share = this.#share(last, next);
    this.#busySince = share === undefined || share < BUSY ? undefined : (this.#busySince ?? last);
    const common = { at: next.at, source: "cgroup" as const };
    const resource = this.#figures(this.#busySince ?? last, next);
    const hit = this.#limitsHit(last.stats, next.stats);
    return [
      { ...common, kind: "resource.sample", resource },
      ...(hit === undefined ? [] : [{ ...common, kind: "resource.limit" as const, resource: hit }]),
    ];
  }

  #share(from: Counters, to: Counters): number | undefined {
    const ms = to.at - from.at;
    if (from.stats.cpuMs === null || to.stats.cpuMs === null || ms <= 0) return undefined;
    return Math.max(0, to.stats.cpuMs - from.stats.cpuMs) / (ms * this.#limits.cpus);
  }

  #figures(from: Counters, to: Counters): Record<string, number> {
    const seconds = (to.at - from.at) / 1000;
    const { stats } = to;
    const perSecond = (before: number | undefined, now: number | undefined): number | undefined =>
      before === undefined || now === undefined ? undefined : Math.max(0, now - before) / seconds;
    const memory = stats.memoryBytes ?? undefined;
    const before = from.stats.memoryBytes ?? undefined;
    const change =
      memory === undefined || before === undefined || before === 0
        ? undefined
        : Math.abs(memory - before) / before;
    const figures: ResourceFigures = {
      seconds,
      cpuShare: this.#share(from, to),
      newProcessesPerSecond: perSecond(from.programs, to.programs),
      ioBytesPerSecond: perSecond(from.ioBytes, to.ioBytes),
      memoryChange: change,
      memoryBytes: memory,
      pids: stats.pids ?? undefined,
      diskBytes: stats.diskBytes ?? undefined,
      outputBytes: stats.outputBytes,
    };
    return known(figures);
  }

  /** Totals of those that have grown. */
  #limitsHit(before: SandboxStats, now: SandboxStats): Record<string, number> | undefined {
    const grown = (key: "oomKills" | "pidsRefused"): number | undefined =>
      (now[key] ?? 0) > (before[key] ?? 0) ? (now[key] ?? undefined) : undefined;
    const isFull = (now.diskBytes ?? 0) >= FULL * this.#limits.diskBytes;
    const fills = isFull && !this.#diskWasFull;
    this.#diskWasFull = isFull;
    const floods = now.outputBytes - this.#outputTold > this.#limits.outputBytes;
    if (floods) this.#outputTold = now.outputBytes;
    const hit = known({
      oomKills: grown("oomKills"),
      pidsRefused: grown("pidsRefused"),
      diskBytes: fills ? (now.diskBytes ?? undefined) : undefined,
      outputBytes: floods ? now.outputBytes : undefined,
    });
    return Object.keys(hit).length === 0 ? undefined : hit;
  }
}

const known = (figures: ResourceFigures): Record<string, number> =>
  Object.fromEntries(
    Object.entries(figures).filter((entry): entry is [string, number] => entry[1] !== undefined),
  );
