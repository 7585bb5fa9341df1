import type { LocalImage } from "../image/local-image.ts";
import type { Capabilities } from "../port/capabilities.ts";
import type { Pool, PoolOptions, ReapReport } from "../port/driver.ts";
import type { DurableDriver, StoppedSandbox } from "../port/durable.ts";
import type { Sandbox, SandboxSpec } from "../port/sandbox.ts";
import type { Snapshots } from "../port/snapshots.ts";
import type { Lost } from "./adopt.ts";
import type { OciDriver } from "./oci-driver.ts";
import type { OciSandbox } from "./oci-sandbox.ts";

/** An OCI driver whose sandboxes and snapshots are kept when their processes end, and when its own does. Owns the driver that it is given. */
export class DurableOciDriver implements DurableDriver {
  readonly #driver: OciDriver;

  constructor(driver: OciDriver) {
    this.#driver = driver;
  }

  get home(): string {
    return this.#driver.home;
  }

  get snapshots(): Snapshots {
    return this.#driver.snapshots;
  }

  capabilities(): Promise<Capabilities> {
    return this.#driver.capabilities();
  }

  create(spec: SandboxSpec, signal?: AbortSignal): Promise<OciSandbox> {
    return this.#driver.create(spec, signal);
  }

  createFrom(image: LocalImage, spec: SandboxSpec, signal?: AbortSignal): Promise<OciSandbox> {
    return this.#driver.createFrom(image, spec, signal);
  }

  takeLayer(id: string, target: string): Promise<void> {
    return this.#driver.takeLayer(id, target);
  }

  snapshotLayers(id: string): ReturnType<OciDriver["snapshotLayers"]> {
    return this.#driver.snapshotLayers(id);
  }

  frozenLayers(id: string): ReturnType<OciDriver["frozenLayers"]> {
    return this.#driver.frozenLayers(id);
  }

  space(): Promise<string> {
    return this.#driver.space();
  }

  pool(spec: SandboxSpec, options: PoolOptions): Pool {
    return this.#driver.pool(spec, options);
  }

  list(): readonly Sandbox[] {
    return this.#driver.list();
  }

  reap(): Promise<ReapReport> {
    return this.#driver.reap();
  }

  stopped(): Promise<readonly StoppedSandbox[]> {
    return this.#driver.stoppedSandboxes();
  }

  /** What a reboot took, because it lay in memory: sandboxes and snapshots whose disk fits into half of their memory. Told once, to this owner. */
  lost(): Promise<Lost> {
    return this.#driver.lost();
  }

  stop(id: string): Promise<void> {
    return this.#driver.stopSandbox(id);
  }

  resume(id: string, signal?: AbortSignal): Promise<OciSandbox> {
    return this.#driver.resumeSandbox(id, signal);
  }

  remove(id: string): Promise<void> {
    return this.#driver.removeStopped(id);
  }

  /** Stops all sandboxes and keeps their files. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#driver[Symbol.asyncDispose]();
  }
}
