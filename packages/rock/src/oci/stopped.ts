import { existsSync } from "node:fs";
import { AleError } from "@ale/core";
import { groupIds } from "../host/cgroup.ts";
import type { StoppedSandbox } from "../port/durable.ts";
import type { SandboxSpec } from "../port/sandbox.ts";
import { type Owner, RunningContainer } from "./container.ts";
import type { Host } from "./container-host.ts";
import { isAnothers } from "./group-owner.ts";
import { makeLayer, unsealLayer } from "./layer.ts";
import { removeGroups } from "./remains.ts";
import type { ShellState } from "./shell-state.ts";
import {
  listSandboxes,
  places,
  readSandboxState,
  removeSandboxDirectory,
  type SandboxState,
  writeSandboxState,
} from "./state.ts";

/** Sandboxes of a durable driver that have files and no process. */

/** What is remembered of its spec: the content of its files lies in its layers. */
const specOf = (state: SandboxState): SandboxSpec => ({ ...state.spec, id: state.id, files: [] });

export function stoppedIn(space: string, isRunning: (id: string) => boolean): readonly StoppedSandbox[] {
  return listSandboxes(space).flatMap((id) => {
    const state = isRunning(id) ? undefined : readSandboxState(space, id);
    return state?.ready ? [{ id, spec: specOf(state), createdAtMs: state.createdAtMs }] : [];
  });
}

/** Throws an AleError: `sandbox-unknown`, `sandbox-running`, `id-taken`; the sandbox then stays as it is. */
export async function startStopped(
  host: Host,
  id: string,
  owner: Owner,
  isRunning: boolean,
): Promise<{ container: RunningContainer; shells: readonly ShellState[] }> {
  if (isRunning)
    throw new AleError("sandbox-running", `sandbox ${id} runs already`, { next: "use it, or stop it first" });
  const before = existsSync(places(host.space, id).directory) ? readSandboxState(host.space, id) : undefined;
  if (!before?.ready)
    throw new AleError("sandbox-unknown", `there is no stopped sandbox ${JSON.stringify(id.slice(0, 80))}`, {
      next: "list those that are stopped",
    });
  if (groupIds(host.cgroups).includes(id) && !(await clearGroups(host, id)))
    throw new AleError("id-taken", `another owner on this host runs a sandbox ${id}`, {
      next: "end that one first",
    });
  const state = await aboveSealed(host, before);
  const container = new RunningContainer(host, state, specOf(state), owner);
  await container.start({ fresh: false, plants: false });
  return { container, shells: state.shells };
}

/** A group alone may be what a crash has left of this one. False where it is another's. */
const clearGroups = async (host: Host, id: string): Promise<boolean> =>
  !(await isAnothers(host.space, host.cgroups, id)) && (await removeGroups(host, id));

/** A crash in the middle of a snapshot leaves a sandbox with a writable layer that is a snapshot's by now. */
async function aboveSealed(host: Host, state: SandboxState): Promise<SandboxState> {
  if (!host.layers.isHeldBeside(state.id, state.layer)) {
    unsealLayer(host.layers.at(state.layer));
    return state;
  }
  const fresh = host.layers.fresh();
  const next = { ...state, layer: fresh.id, lower: [state.layer, ...state.lower] };
  host.layers.hold(state.id, [next.layer, ...next.lower]);
  await makeLayer(fresh, state.spec.limits);
  writeSandboxState(host.space, next);
  return next;
}

/** Throws an AleError `sandbox-running`. */
export async function removeStopped(host: Host, id: string, isRunning: boolean): Promise<void> {
  if (isRunning)
    throw new AleError("sandbox-running", `sandbox ${id} runs`, { next: "destroy it, or stop it first" });
  if (!listSandboxes(host.space).includes(id)) return;
  removeSandboxDirectory(host.space, id);
  await host.layers.release(id);
}
