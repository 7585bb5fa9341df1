import type { TelemetrySource } from "@ale/core";
import { readIoBytes } from "../host/cgroup-stats.ts";
import { findTool } from "../host/tools.ts";
import type { Capabilities } from "../port/capabilities.ts";
import { type CgroupSources, cgroupCollector } from "../telemetry/cgroup-collector.ts";
import type { CollectorKind } from "../telemetry/collector.ts";
import { deniedCollector } from "../telemetry/denied-collector.ts";
import { witnessObstacle } from "../telemetry/exec-witness.ts";
import { filesCollector } from "../telemetry/files-collector.ts";
import { gpuCollector } from "../telemetry/gpu-collector.ts";
import { NETWORK_SOURCES, networkCollector } from "../telemetry/network-collector.ts";
import { tracingObstacle } from "../telemetry/tracefs.ts";
import type { Tracer } from "../telemetry/tracer.ts";
import type { Host } from "./container-host.ts";
import type { DeniedCalls } from "./denied-calls.ts";

/** Which collectors of telemetry a host has for this driver's sandboxes. */

export function collectorsOf(host: Host, denied: DeniedCalls, tracer: Tracer): readonly CollectorKind[] {
  return [
    ...(host.networks === undefined ? [] : [networkCollector(host.networks)]),
    ...(host.logDenied ? [deniedCollector(denied)] : []),
    ...(tracingObstacle() === undefined ? [tracer.kind] : []),
    ...(host.groups ? [cgroupCollector(countersOf(host, tracer))] : []),
    filesCollector(),
    ...(findTool("nvidia-smi") === undefined ? [] : [gpuCollector()]),
  ];
}

const countersOf = (host: Host, tracer: Tracer): CgroupSources => ({
  ioBytes: (id) => readIoBytes(host.cgroups, id),
  programs: (id) => tracer.started(id),
});

export interface TelemetryFindings {
  /** There are control groups that we may write. */
  readonly groups: boolean;
  /** Where refused calls were found. */
  readonly denials: "audit" | "kernel-log" | undefined;
  readonly network: Capabilities["network"];
}

/** What there is, and why the rest is missing. That of refused calls is told as `trace`. */
export function telemetrySources({ denials, network, groups }: TelemetryFindings): {
  readonly sources: readonly TelemetrySource[];
  readonly arguments: Capabilities["arguments"];
  readonly weaker: Capabilities["weaker"];
} {
  const gateway = network.some((mode) => mode !== "none");
  const untraced = tracingObstacle();
  const late = untraced === undefined ? witnessObstacle() : undefined;
  return {
    arguments: untraced !== undefined ? "none" : late === undefined ? "kernel" : "proc",
    sources: [
      ...(gateway ? NETWORK_SOURCES : []),
      ...(untraced === undefined ? (["tracefs"] as const) : []),
      ...(denials === undefined ? [] : [denials]),
      ...(groups ? (["cgroup"] as const) : []),
      ...(findTool("nvidia-smi") === undefined ? [] : (["gpu"] as const)),
      "files",
    ],
    weaker: [
      ...(untraced === undefined ? [] : [{ what: "telemetry of programs and connections", why: untraced }]),
      ...(late === undefined
        ? []
        : [
            {
              what: "arguments of programs",
              why: `read after the fact, those of very short ones never: ${late}`,
            },
          ]),
    ],
  };
}
