import { statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type CgroupHost, processesOf } from "../host/cgroup.ts";
import { INSIDE } from "../inside/toolbox.ts";
import { toolboxMount } from "./state.ts";

/**
 * Whose sandbox runs in a control group. Groups are named by the sandbox alone, and a sandbox that one server keeps stopped may have the name
 * of one that another server runs: before anything in a group is ended, its processes are asked which driver's toolbox they see.
 */

type Whose = "ours" | "another's" | "nobody's" | "unknown";

/** As it is at this moment: `unknown` while a runtime has not entered the sandbox's root yet. */
export function groupOwner(space: string, cgroups: CgroupHost, id: string): Whose {
  const processes = processesOf(cgroups, id);
  if (processes.length === 0) return "nobody's";
  const own = deviceOf(toolboxMount(space));
  const seen = processes.flatMap((pid) => deviceOf(`/proc/${pid}/root${INSIDE}`) ?? []);
  if (seen.length === 0) return "unknown";
  return seen.some((device) => device === own) ? "ours" : "another's";
}

/** Whether what runs under this name is another driver's. What cannot be known in a second is nobody else's: it is no running sandbox. */
export async function isAnothers(space: string, cgroups: CgroupHost, id: string): Promise<boolean> {
  for (let round = 0; round < 50; round++) {
    const owner = groupOwner(space, cgroups, id);
    if (owner !== "unknown") return owner === "another's";
    await sleep(20);
  }
  return false;
}

function deviceOf(path: string): number | undefined {
  try {
    return statSync(path).dev;
  } catch {
    return undefined;
  }
}
