import { salvage } from "../evidence/salvage.ts";
import type { CgroupHost } from "../host/cgroup.ts";
import { removeTree } from "../host/mounts.ts";
import { isAlive } from "../host/owner.ts";
import type { ReapReport } from "../port/driver.ts";
import { reapTraces } from "../telemetry/tracefs.ts";
import { isAnothers } from "./group-owner.ts";
import { removeGroups } from "./remains.ts";
import { listSandboxes, listSpaces, type Space } from "./state.ts";

/** Removes the sandboxes of processes that are gone, when what is evidence of them has been kept, and leaves those of living processes alone. */
export async function reapDead(home: string, cgroups: CgroupHost): Promise<ReapReport> {
  const report = {
    reaped: [] as string[],
    alive: [] as string[],
    failures: [] as { id: string; what: string }[],
  };
  await reapTraces();
  for (const space of listSpaces(home)) {
    if (isAlive(space.owner)) report.alive.push(...listSandboxes(space.directory));
    else await reapSpace(home, space, cgroups, report);
  }
  return report;
}

async function reapSpace(
  home: string,
  space: Space,
  cgroups: CgroupHost,
  report: { reaped: string[]; failures: { id: string; what: string }[] },
): Promise<void> {
  const ids = listSandboxes(space.directory);
  const busy: string[] = [];
  for (const id of ids)
    if (!(await isAnothers(space.directory, cgroups, id)) && !(await removeGroups({ cgroups }, id)))
      busy.push(id);
  for (const id of busy) report.failures.push({ id, what: "its control groups still hold processes" });
  if (busy.length > 0) return;
  try {
    const { failures } = await salvage(home, space.directory);
    report.failures.push(...failures);
    // It is tried again when there is room.
    if (failures.length > 0) return;
    removeTree(space.directory);
    report.reaped.push(...ids);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    report.failures.push(...ids.map((id) => ({ id, what })));
  }
}
