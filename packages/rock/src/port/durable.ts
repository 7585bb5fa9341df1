import type { SandboxDriver } from "./driver.ts";
import type { Sandbox, SandboxSpec } from "./sandbox.ts";

/**
 * A driver whose sandboxes outlive their processes, and the process that made them: what a server needs. Their files are kept when
 * they stop, for whatever reason; only `remove` and `Sandbox.destroy` delete them.
 */

/** Files without processes. */
export interface StoppedSandbox {
  readonly id: string;
  readonly spec: SandboxSpec;
  readonly createdAtMs: number;
}

export interface DurableDriver extends SandboxDriver {
  /** Sandboxes that have files and no process, those of an owner that crashed among them. */
  stopped(): Promise<readonly StoppedSandbox[]>;
  /** Ends the processes of a running sandbox and keeps its files. Its `ended` resolves. Safe to call twice. */
  stop(id: string): Promise<void>;
  /** Starts a stopped sandbox: same id, spec and files; `spec.files` are not written again. Unknown ids are `sandbox-unknown`. */
  resume(id: string, signal?: AbortSignal): Promise<Sandbox>;
  /** Deletes the files of a stopped sandbox. Unknown ids are no error. */
  remove(id: string): Promise<void>;
}

export const isDurable = (driver: SandboxDriver): driver is DurableDriver =>
  "stopped" in driver && "stop" in driver && "resume" in driver && "remove" in driver;
