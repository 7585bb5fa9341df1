import { processesOf } from "../host/cgroup.ts";
import type { Observed } from "../telemetry/collector.ts";
import type { RunningContainer } from "./container.ts";

/** A container as the collectors of telemetry look at it. A sandbox moves to another one when it is resumed. */
export function observed(id: string, containerNow: () => RunningContainer): Observed {
  return {
    id,
    pids: () => processesOf(containerNow().cgroups, id),
    shells: () => containerNow().shells.all,
    users: () => containerNow().users,
    upper: () => containerNow().upper,
    lower: () => containerNow().lower,
    filesRead: () => containerNow().reads.readPaths(id),
    stats: () => (containerNow().ended ? undefined : containerNow().stats()),
    limits: containerNow().spec.limits,
  };
}
