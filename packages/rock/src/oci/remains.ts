import { rmdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { type CgroupHost, killGroup, removeGroup } from "../host/cgroup.ts";
import { unmountAside } from "../host/mounts.ts";

/** What the processes of a sandbox leave on the host, and its removal. */

/** Resolves when the kernel has let go of a root filesystem: in proportion to what the sandbox has touched. */
export async function detachRoot(root: string): Promise<void> {
  while (await unmountAside(root));
  try {
    await rmdir(root);
  } catch {
    // Whoever removes the sandbox's directory tries again.
  }
}

/** Ends every process in the groups of a sandbox, and the groups. False where the kernel does not let go of them. */
export async function removeGroups(host: { readonly cgroups: CgroupHost }, id: string): Promise<boolean> {
  let clean = false;
  for (let round = 0; round < 100 && !clean; round++) {
    clean = killGroup(host.cgroups, id) && (await removeGroup(host.cgroups, id));
    if (!clean) await sleep(10);
  }
  return clean;
}
