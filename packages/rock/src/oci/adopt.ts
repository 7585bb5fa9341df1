import { rmdirSync } from "node:fs";
import { join } from "node:path";
import type { CgroupHost } from "../host/cgroup.ts";
import { mountsUnder, removeTree } from "../host/mounts.ts";
import { unmount } from "../host/native.ts";
import type { SnapshotStore } from "../snapshot/snapshot-store.ts";
import { isAnothers } from "./group-owner.ts";
import { recoverLayer } from "./layer.ts";
import type { LayerStore } from "./layer-store.ts";
import { removeGroups } from "./remains.ts";
import { entries, listSandboxes, places, readSandboxState, type SandboxState } from "./state.ts";

/**
 * What the next owner of a durable space does with what the last one left, however that ended: no process, control group or root
 * filesystem stays; files stay, of sandboxes that had once been ready and of snapshots.
 */

/** Ids of what cannot be had again. */
export interface Lost {
  readonly sandboxes: readonly string[];
  readonly snapshots: readonly string[];
}

/** Before anything else: nothing that ran may still change files. Throws where the kernel does not let go of a process. */
export async function endAll(space: string, cgroups: CgroupHost): Promise<void> {
  for (const id of listSandboxes(space)) {
    if (!(await isAnothers(space, cgroups, id)) && !(await removeGroups({ cgroups }, id)))
      throw new Error(`the control groups of sandbox ${id} still hold processes`);
    const { directory } = places(space, id);
    for (const path of mountsUnder(directory).reverse()) unmount(path);
    for (const name of entries(directory)) if (name.startsWith("root-")) rmdirSync(join(directory, name));
  }
}

export async function adopt(space: string, layers: LayerStore, snapshots: SnapshotStore): Promise<Lost> {
  const states = listSandboxes(space).flatMap((id) => {
    const state = readSandboxState(space, id);
    // Whoever asked for it never got it.
    if (state === undefined || !state.ready) removeTree(places(space, id).directory);
    return state?.ready ? [state] : [];
  });
  const gone = await lostLayers(layers, states, snapshots);
  const hasLost = (ids: readonly string[]): boolean => ids.some((id) => gone.has(id));
  const sandboxes = states.filter((state) => hasLost([state.layer, ...state.lower])).map(({ id }) => id);
  const lostSnapshots = snapshots.list().filter((record) => hasLost(record.lower));
  for (const state of states) {
    if (sandboxes.includes(state.id)) removeTree(places(space, state.id).directory);
    else layers.hold(state.id, [state.layer, ...state.lower]);
  }
  for (const { id } of lostSnapshots) await snapshots.remove(id);
  await layers.sweep();
  return { sandboxes, snapshots: lostSnapshots.map(({ id }) => id) };
}

async function lostLayers(
  layers: LayerStore,
  states: readonly SandboxState[],
  snapshots: SnapshotStore,
): Promise<ReadonlySet<string>> {
  const needed = new Set([
    ...states.flatMap((state) => [state.layer, ...state.lower]),
    ...snapshots.list().flatMap((record) => record.lower),
  ]);
  const lost = new Set<string>();
  for (const id of needed) if (!(await recoverLayer(layers.at(id)))) lost.add(id);
  return lost;
}
