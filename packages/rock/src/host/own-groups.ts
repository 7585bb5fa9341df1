import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Limits } from "@ale/core";
import { CGROUP_PARENT, cgroupMounts } from "./cgroup.ts";

/**
 * Control groups of a v1 host that a sandbox's runtime enters by itself before it begins. To put another process into a group, as runtimes
 * do, takes a lock that first waits for all processors (an RCU grace period, 8 to 20 ms); a process that moves its only thread takes none.
 * v2 has no such way.
 */

export interface OwnGroups {
  /** Directories to be made and files to be written, one a line, by what then becomes the runtime. */
  readonly enter: string;
  /** To be written once PID 1 has begun, before anything else runs: the runtime is not held to them. */
  readonly limits: readonly (readonly [path: string, value: string])[];
}

/** Those with a limit, those that count, and the one that can stop all at once. */
const NEEDED = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer"] as const;
/** The last counts what is read from disks and written to them. */
const CONTROLLERS = [...NEEDED, "blkio"] as const;
type Controller = (typeof CONTROLLERS)[number];

/** Where each hierarchy is, and what it controls. */
export type Hierarchies = ReadonlyMap<string, readonly Controller[]>;

/** What is mounted here; undefined where it is not all that is needed. */
export function ownHierarchies(mounts = cgroupMounts()): Hierarchies | undefined {
  const found = mounts
    .filter(({ type }) => type === "cgroup")
    .map(({ target, options }) => [target, CONTROLLERS.filter((name) => options.includes(name))] as const)
    .filter(([, controllers]) => controllers.length > 0);
  const all = new Set(found.flatMap(([, controllers]) => controllers));
  return NEEDED.every((name) => all.has(name)) ? new Map(found) : undefined;
}

export const CPU_PERIOD_US = 100_000;
/** As every group has them. */
const SHARES = 1024;
/** While a sandbox begins, so that it need not wait for those that are busy. */
const MOST_SHARES = 262_144;

/** What a container needs, as runtimes allow it: to make nodes of any kind, and to use these. */
const DEVICES = [
  "c *:* m",
  "b *:* m",
  "c 1:3 rwm", // null
  "c 1:5 rwm", // zero
  "c 1:7 rwm", // full
  "c 1:8 rwm", // random
  "c 1:9 rwm", // urandom
  "c 5:0 rwm", // tty
  "c 5:1 rwm", // console
  "c 5:2 rwm", // ptmx
  "c 136:* rwm", // pts
];

export function ownGroups(hierarchies: Hierarchies, id: string, limits: Limits): OwnGroups {
  const lines: string[] = [];
  const late: [string, string][] = [];
  for (const [target, controllers] of hierarchies) {
    const group = join(target, CGROUP_PARENT, id);
    lines.push(group);
    for (const controller of controllers)
      for (const [file, value] of settingsOf(controller, target, limits))
        lines.push(`${join(group, file)} ${value}`);
    lines.push(`${join(group, "tasks")} 0`);
    if (controllers.includes("pids")) late.push([join(group, "pids.max"), String(limits.pids + 1)]);
    if (controllers.includes("cpu"))
      late.push(
        [join(group, "cpu.cfs_quota_us"), String(quotaOf(limits))],
        [join(group, "cpu.shares"), String(SHARES)],
      );
  }
  return { enter: lines.join("\n"), limits: late };
}

function settingsOf(controller: Controller, target: string, limits: Limits): [string, string][] {
  const bytes = String(limits.memoryBytes);
  const swap = "memory.memsw.limit_in_bytes";
  if (controller === "memory")
    return [
      ["memory.limit_in_bytes", bytes],
      // A kernel that does not account for swap has no such file.
      ...(existsSync(join(target, swap)) ? [[swap, bytes] as [string, string]] : []),
    ];
  if (controller === "devices")
    return [["devices.deny", "a"], ...DEVICES.map((rule): [string, string] => ["devices.allow", rule])];
  if (controller === "cpu")
    return [
      ["cpu.cfs_period_us", String(CPU_PERIOD_US)],
      ["cpu.shares", String(MOST_SHARES)],
    ];
  return [];
}

/** Of processor time in each period. */
export const quotaOf = ({ cpus }: Limits): number => Math.max(1_000, Math.round(cpus * CPU_PERIOD_US));
