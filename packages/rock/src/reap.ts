import type { CgroupHost } from "./cgroup.ts";
import { removeTraces } from "./container.ts";
import { isAlive } from "./owner.ts";
import type { ReapReport } from "./sandbox.ts";
import { listIds, readState } from "./state.ts";

/**
 * Removes the sandboxes of processes that are gone. The state file is written before anything else of a sandbox and removed
 * after everything else, so that a directory without a readable one belongs to a process that died at that very moment.
 */
export async function reapDead(home: string, cgroups: CgroupHost): Promise<ReapReport> {
  const reaped: string[] = [];
  const alive: string[] = [];
  const failures: { id: string; what: string }[] = [];
  for (const id of listIds(home)) {
    const state = readState(home, id);
    if (state !== undefined && isAlive(state.owner)) {
      alive.push(id);
      continue;
    }
    try {
      const clean = await removeTraces({ home, cgroups }, id);
      if (clean) reaped.push(id);
      else failures.push({ id, what: "its control groups still hold processes" });
    } catch (error) {
      failures.push({ id, what: error instanceof Error ? error.message : String(error) });
    }
  }
  return { reaped, alive, failures };
}
