import { availableParallelism, totalmem } from "node:os";
import { AleError, type Limits } from "@ale/core";
import { hasFiles, isLive, type SandboxRecord } from "./record.ts";

/** What a tenant may hold at once, and what one sandbox may have on this host. */

export interface Quota {
  /** Sandboxes that have files: pending, running and stopped ones. */
  readonly sandboxes: number;
  /** Of those that run or are about to. */
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Of those that have files. */
  readonly diskBytes: number;
  readonly snapshotBytes: number;
  readonly creationsPerMinute: number;
}

export interface HostLimits {
  readonly cpus: number;
  readonly memoryBytes: number;
}

const GIB = 2 ** 30;

export const DEFAULT_QUOTA: Quota = {
  sandboxes: 1_000,
  cpus: 10_000,
  memoryBytes: 4_096 * GIB,
  diskBytes: 4_096 * GIB,
  snapshotBytes: 256 * GIB,
  creationsPerMinute: 6_000,
};

export const hostLimits = (): HostLimits => ({ cpus: availableParallelism(), memoryBytes: totalmem() });

export interface Usage {
  readonly sandboxes: number;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

export function usageOf(records: Iterable<SandboxRecord>): Usage {
  const usage = { sandboxes: 0, cpus: 0, memoryBytes: 0, diskBytes: 0 };
  for (const record of records) {
    const { limits } = record.spec;
    if (hasFiles(record)) {
      usage.sandboxes += 1;
      usage.diskBytes += limits.diskBytes;
    }
    if (isLive(record)) {
      usage.cpus += limits.cpus;
      usage.memoryBytes += limits.memoryBytes;
    }
  }
  return usage;
}

/** Throws an AleError `limits-above-host`: such a sandbox could never have what it asks for. */
export function refuseAboveHost(limits: Limits, host: HostLimits): void {
  const refuse = (what: string, asked: number | string, has: number | string): never => {
    throw new AleError("limits-above-host", `${what} ${asked} asked for, this host has ${has}`, {
      next: `ask for at most ${has}`,
    });
  };
  if (limits.cpus > host.cpus) refuse("cpus", limits.cpus, host.cpus);
  const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;
  if (limits.memoryBytes > host.memoryBytes)
    refuse("memory of", mib(limits.memoryBytes), mib(host.memoryBytes));
}

/** Throws an AleError `quota-exceeded` that names the quota, what is used and what was asked for. `resume`: it has its files already. */
export function refuseAboveQuota(
  usage: Usage,
  quota: Quota,
  limits: Limits,
  count: number,
  resume = false,
): void {
  const asked: Usage = {
    sandboxes: resume ? 0 : count,
    cpus: limits.cpus * count,
    memoryBytes: limits.memoryBytes * count,
    diskBytes: resume ? 0 : limits.diskBytes * count,
  };
  for (const key of ["sandboxes", "cpus", "memoryBytes", "diskBytes"] as const)
    if (usage[key] + asked[key] > quota[key]) throw quotaExceeded(key, usage[key], asked[key], quota[key]);
}

export function quotaExceeded(what: keyof Quota, used: number, asked: number, quota: number): AleError {
  const shown = (amount: number): string =>
    what.endsWith("Bytes") ? `${Math.ceil(amount / 2 ** 20)} MiB` : String(amount);
  return new AleError(
    "quota-exceeded",
    `quota of ${what}: ${shown(used)} used, ${shown(asked)} more asked for, ${shown(quota)} allowed`,
    { next: "delete what is no longer needed, ask for less, or have the quota raised" },
  );
}

/** At most so many events in any minute that begins with the oldest one remembered. */
export class MinuteWindow {
  readonly #times: number[] = [];

  /** False where `count` more would be too many; nothing is then counted. */
  take(count: number, perMinute: number, nowMs: number): boolean {
    while (this.#times.length > 0 && this.#times[0]! <= nowMs - 60_000) this.#times.shift();
    if (this.#times.length + count > perMinute) return false;
    for (let index = 0; index < count; index++) this.#times.push(nowMs);
    return true;
  }

  /** Until there is room for one more. */
  waitMs(nowMs: number): number {
    return this.#times.length === 0 ? 0 : Math.max(0, this.#times[0]! + 60_000 - nowMs);
  }
}
