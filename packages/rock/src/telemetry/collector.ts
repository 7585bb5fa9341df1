import type { Limits, Telemetry, TelemetrySource } from "@ale/core";
import type { SandboxStats } from "../port/sandbox.ts";

/** What sees things happen in sandboxes. */

export type Tell = (record: Telemetry) => void;

/** A process of the host, also when its number is another one's by now. `startedAt` on the telemetry's clock, to some 10 ms. */
export interface ProcessStart {
  readonly pid: number;
  readonly startedAt: number;
}

/** A sandbox as collectors know it. All of it may change with a restart of the sandbox, and is asked for when needed. */
export interface Observed {
  readonly id: string;
  /** Its processes on the host, PID 1 first where it is known. */
  readonly pids: () => readonly number[];
  /** Those of its processes, on the host, that are or were kept as shells of sessions; the last to start comes last. */
  readonly shells: () => readonly ProcessStart[];
  /** Numbers of the host that its users have; undefined where they are the host's own. */
  readonly users: () => { readonly first: number; readonly size: number } | undefined;
  /** What it has written above its image; undefined while that is not to be read. */
  readonly upper: () => string | undefined;
  /** The layers below that, the uppermost first. */
  readonly lower: () => readonly string[];
  /** Files that were there at the start and have been opened for reading, as far as that is known. */
  readonly filesRead: () => readonly string[];
  /** Undefined while there are none. */
  readonly stats: () => SandboxStats | undefined;
  readonly limits: Pick<Limits, "cpus" | "diskBytes" | "outputBytes">;
}

/** How one kind of collector begins. It may throw: then it is not there. */
export interface CollectorKind {
  readonly sources: readonly TelemetrySource[];
  start(tell: Tell): Collector;
}

/** At work from its start to its disposal, for the sandboxes that it was told to follow. */
export interface Collector extends Disposable {
  follow(sandbox: Observed): void;
  /** Nobody listens to it any more, or it has ended. */
  forget(id: string): void;
  /** Resolves when what happened in the sandbox before the call was told. */
  drain(id: string): Promise<void>;
  /** What `work` changes in the sandbox from outside is not told as its doing. */
  unseen?<T>(id: string, work: () => Promise<T>): Promise<T>;
  /** Adds to a record of another collector what this one knows of its process. */
  enrich?(record: Telemetry): Promise<Telemetry>;
}
