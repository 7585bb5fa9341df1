import type { Capabilities } from "./capabilities.ts";
import type { Sandbox, SandboxSpec } from "./sandbox.ts";
import type { Snapshots } from "./snapshots.ts";

/** What makes sandboxes. */

export interface ReapReport {
  /** Sandboxes whose owner process was gone, with everything they left behind. */
  readonly reaped: readonly string[];
  /** Sandboxes that belong to living owners and were left alone. */
  readonly alive: readonly string[];
  readonly failures: readonly { readonly id: string; readonly what: string }[];
}

export interface PoolOptions {
  /** Sandboxes kept ready. */
  readonly size: number;
}

/** Sandboxes of one spec, kept ready. Owns those that were not taken. */
export interface Pool extends AsyncDisposable {
  readonly ready: number;
  /** One that is ready, else the next that becomes so. The taker owns it. */
  take(signal?: AbortSignal): Promise<Sandbox>;
  /** Resolves when as many are ready as wanted. */
  filled(): Promise<void>;
}

export interface SandboxDriver extends AsyncDisposable {
  capabilities(): Promise<Capabilities>;
  readonly snapshots: Snapshots;
  /** Fails with an AleError that names what is missing and how to get it. Concurrency is bounded inside. */
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox>;
  pool(spec: SandboxSpec, options: PoolOptions): Pool;
  /** Sandboxes of this driver that run. */
  list(): readonly Sandbox[];
  /** Removes what crashed owners left: processes, mounts, cgroups, directories. Never touches a living owner's sandboxes. */
  reap(): Promise<ReapReport>;
}
