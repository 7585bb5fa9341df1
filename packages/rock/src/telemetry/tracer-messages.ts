import type { MessagePort } from "node:worker_threads";
import type { Telemetry } from "@ale/core";

/** Between a driver and the thread that reads the kernel's trace for it. Times are on the driver's clock. */

export type ToTracer =
  /** The events are switched on. */
  | { readonly type: "on" }
  | { readonly type: "off" }
  | { readonly type: "follow"; readonly sandbox: string; readonly pids: readonly number[] }
  | { readonly type: "forget"; readonly sandbox: string }
  /** Answered when everything that happened until now was told. */
  | { readonly type: "drain"; readonly id: number }
  /** Answered with the record, its process filled in as far as it is known. */
  | { readonly type: "enrich"; readonly id: number; readonly record: Telemetry }
  | { readonly type: "end" };

export type FromTracer =
  | { readonly type: "records"; readonly records: readonly Telemetry[] }
  | { readonly type: "drained"; readonly id: number }
  | { readonly type: "enriched"; readonly id: number; readonly record: Telemetry };

export interface TracerSetup {
  readonly port: MessagePort;
  readonly directory: string;
  readonly formats: readonly string[];
  /** Where the kernel writes down what programs were started with; undefined where it does not. */
  readonly queue: number | undefined;
  /** Rung by whoever sends a message. */
  readonly bell: Int32Array<SharedArrayBuffer>;
  /** What the kernel's monotonic clock has to be given, in milliseconds. */
  readonly offsetMs: number;
}
