import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CGROUP_PARENT, type CgroupHost } from "./cgroup.ts";

/** The kernel's counters of one sandbox, from v1 and v2 alike. */

/** A number that this host does not keep is null. */
export interface GroupCounters {
  readonly cpuMs: number | null;
  readonly throttledPeriods: number | null;
  readonly memoryBytes: number | null;
  readonly memoryPeakBytes: number | null;
  readonly oomKills: number | null;
  /** PID 1 included. */
  readonly pids: number | null;
  readonly pidsRefused: number | null;
}

/** Costs a few file reads, about 0.1 ms. */
export function readCounters(host: CgroupHost, id: string): GroupCounters {
  const groups = host.hierarchies.map((hierarchy) => join(hierarchy, CGROUP_PARENT, id));
  const text = (name: string): string | undefined => {
    for (const group of groups) {
      try {
        return readFileSync(join(group, name), "utf8");
      } catch {
        // Not in this hierarchy.
      }
    }
    return undefined;
  };
  const number = (name: string): number | null => whole(text(name));
  const field = (name: string, key: string): number | null => fieldOf(text(name), key);
  const cpuNs = number("cpuacct.usage");
  const cpuUs = field("cpu.stat", "usage_usec");
  return {
    cpuMs: cpuNs !== null ? cpuNs / 1e6 : cpuUs !== null ? cpuUs / 1e3 : null,
    throttledPeriods: field("cpu.stat", "nr_throttled"),
    memoryBytes: number("memory.usage_in_bytes") ?? number("memory.current"),
    memoryPeakBytes: number("memory.max_usage_in_bytes") ?? number("memory.peak"),
    oomKills: field("memory.oom_control", "oom_kill") ?? field("memory.events", "oom_kill"),
    pids: number("pids.current"),
    pidsRefused: field("pids.events", "max"),
  };
}

/** Bytes read from and written to disks; undefined where the host does not count them for groups. */
export function readIoBytes(host: CgroupHost, id: string): number | undefined {
  for (const hierarchy of host.hierarchies) {
    const group = join(hierarchy, CGROUP_PARENT, id);
    const v2 = contentOf(join(group, "io.stat"));
    if (v2 !== undefined) return sumOf(v2, /\b[rw]bytes=(\d+)/g);
    const v1 = contentOf(join(group, "blkio.throttle.io_service_bytes"));
    if (v1 !== undefined) return sumOf(v1, / (?:Read|Write) (\d+)$/gm);
  }
  return undefined;
}

const sumOf = (text: string, pattern: RegExp): number =>
  [...text.matchAll(pattern)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function whole(text: string | undefined): number | null {
  return text !== undefined && /^\d+\s*$/.test(text) ? Number(text) : null;
}

/** "key value", one a line. */
export function fieldOf(text: string | undefined, key: string): number | null {
  for (const line of text?.split("\n") ?? []) {
    const [name, value] = line.split(" ");
    if (name === key) return whole(value);
  }
  return null;
}

/** Counters of a sandbox that was started anew continue where those of its former groups ended. */
export function addCounters(before: GroupCounters, now: GroupCounters): GroupCounters {
  const sum = (key: keyof GroupCounters): number | null =>
    now[key] === null ? null : now[key] + (before[key] ?? 0);
  return {
    cpuMs: sum("cpuMs"),
    throttledPeriods: sum("throttledPeriods"),
    memoryBytes: now.memoryBytes,
    memoryPeakBytes:
      now.memoryPeakBytes === null ? null : Math.max(now.memoryPeakBytes, before.memoryPeakBytes ?? 0),
    oomKills: sum("oomKills"),
    pids: now.pids,
    pidsRefused: sum("pidsRefused"),
  };
}
