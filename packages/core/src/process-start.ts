import { readFileSync } from "node:fs";

/**
 * When a process was started, in clock ticks since the machine did (proc(5), field 22 of stat); null when there is none, or the system
 * has no /proc. A pid is used again after a while; together with its start it is not.
 */
export function processStart(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name may hold spaces and brackets; fields are counted from behind the last bracket.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
