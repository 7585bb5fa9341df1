import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cgroupMounts } from "./cgroup.ts";

/**
 * A process is put into a control group under a lock that first waits for all processors to have taken notice (an RCU grace period, 10 to
 * 20 ms), unless somebody else has just done the same. A runtime comes to that point some 10 ms after a sandbox was asked for. So that
 * the wait is over by then it is begun at once, by putting this process where it is already, which changes nothing.
 */

let target: string | null | undefined;

/** Returns at once. Without the right to it nothing happens, and the runtime waits itself. */
export function hastenAttach(): void {
  target ??= ownGroup();
  if (target !== null) writeFile(target, String(process.pid)).catch(() => (target = null));
}

/** The file of the group that this process is in, of any hierarchy: they share the lock. */
function ownGroup(): string | null {
  try {
    for (const line of readFileSync("/proc/self/cgroup", "utf8").trim().split("\n")) {
      const [, controllers = "", path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      const mount = cgroupMounts().find(({ type, options }) =>
        controllers === "" ? type === "cgroup2" : options.includes(controllers.split(",")[0]!),
      );
      if (mount !== undefined) return join(mount.target, path, "cgroup.procs");
    }
  } catch {
    // No control groups, or none that we see.
  }
  return null;
}
