import { AleError, type Limits } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import type { Sandbox } from "../port/sandbox.ts";
import type { Ledger } from "./ledger.ts";
import {
  type HostLimits,
  MinuteWindow,
  type Quota,
  quotaExceeded,
  refuseAboveHost,
  refuseAboveQuota,
  type Usage,
  usageOf,
} from "./quota.ts";
import { snapshotsOf } from "./tenant-snapshots.ts";

/** Whether a tenant may have one more. Counts what is in the ledger, and what is on its way there. */

export interface AdmissionOptions {
  readonly ledger: Ledger;
  readonly driver: SandboxDriver;
  readonly quota: (tenant: string) => Quota;
  readonly host: HostLimits;
  readonly now: () => number;
}

interface Reservation extends Disposable {
  readonly tenant: string;
  readonly limits: Limits;
  readonly count: number;
}

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #windows = new Map<string, MinuteWindow>();
  readonly #reserved = new Set<Reservation>();

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  quota(tenant: string): Quota {
    return this.#options.quota(tenant);
  }

  usage(tenant: string): Usage {
    const usage = { ...usageOf(this.#options.ledger.records(tenant)) };
    for (const { tenant: whose, limits, count } of this.#reserved) {
      if (whose !== tenant) continue;
      usage.sandboxes += count;
      usage.cpus += limits.cpus * count;
      usage.memoryBytes += limits.memoryBytes * count;
      usage.diskBytes += limits.diskBytes * count;
    }
    return usage;
  }

  /** Throws an AleError: `limits-above-host`, `quota-exceeded`, `too-many-creations`. `resume`: it has its files already. */
  admit(tenant: string, limits: Limits, count = 1, resume = false): void {
    const { host, now } = this.#options;
    refuseAboveHost(limits, host);
    const quota = this.quota(tenant);
    refuseAboveQuota(this.usage(tenant), quota, limits, count, resume);
    const window = this.#windows.get(tenant) ?? new MinuteWindow();
    this.#windows.set(tenant, window);
    if (window.take(count, quota.creationsPerMinute, now())) return;
    throw new AleError("too-many-creations", `more than ${quota.creationsPerMinute} creations in a minute`, {
      next: `try again in ${Math.ceil(window.waitMs(now()) / 1_000)} s`,
    });
  }

  /** As `admit`; what was admitted counts until it is disposed, by then it has records. */
  reserve(tenant: string, limits: Limits, count: number): Disposable {
    this.admit(tenant, limits, count);
    const reservation: Reservation = {
      tenant,
      limits,
      count,
      [Symbol.dispose]: () => this.#reserved.delete(reservation),
    };
    this.#reserved.add(reservation);
    return reservation;
  }

  /** A snapshot is at most as large as what the sandbox has written. */
  async admitSnapshot(tenant: string, sandbox: Sandbox): Promise<void> {
    const own = await snapshotsOf(this.#options.driver, tenant);
    const used = own.reduce((sum, { bytes }) => sum + bytes, 0);
    const asked = (await sandbox.stats()).diskBytes ?? sandbox.spec.limits.diskBytes;
    const quota = this.quota(tenant).snapshotBytes;
    if (used + asked > quota) throw quotaExceeded("snapshotBytes", used, asked, quota);
  }
}
