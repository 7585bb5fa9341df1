import { statfsSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { AleError, type Limits } from "@ale/core";
import { fitsInMemory, liesInMemory } from "./layer.ts";

/** What one sandbox may ask for at most: what the host has. A promise that cannot be kept is refused, not broken later. */

export interface Capacity {
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Free, where the writable layers of sandboxes lie. */
  readonly diskBytes: number;
}

export function capacityOf(directory: string): Capacity {
  const { bavail, bsize } = statfsSync(directory);
  // No disk at all is another complaint.
  const free = liesInMemory(directory) ? Number.POSITIVE_INFINITY : bavail * bsize;
  return { cpus: availableParallelism(), memoryBytes: totalmem(), diskBytes: free };
}

/** Throws an AleError `limits-above-host`. */
export function refuseOversized(limits: Limits, host: Capacity): void {
  const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;
  if (limits.cpus > host.cpus)
    throw oversized("cpus", String(limits.cpus), `${host.cpus} processors`, String(host.cpus));
  if (limits.memoryBytes > host.memoryBytes)
    throw oversized(
      "memoryBytes",
      mib(limits.memoryBytes),
      `${mib(host.memoryBytes)} of memory`,
      String(host.memoryBytes),
    );
  if (!fitsInMemory(limits) && limits.diskBytes > host.diskBytes)
    throw new AleError(
      "limits-above-host",
      `limits.diskBytes asks for ${mib(limits.diskBytes)}; this host has ${mib(host.diskBytes)} of free disk`,
      { next: "free some disk space below ALE_HOME, or lower limits.diskBytes" },
    );
}

function oversized(limit: string, asked: string, has: string, most: string): AleError {
  return new AleError("limits-above-host", `limits.${limit} asks for ${asked}; this host has ${has}`, {
    next: `lower limits.${limit} to ${most} or less, or use a larger host`,
  });
}
