import { realpathSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { probeCgroups } from "../host/cgroup.ts";
import { mountsUnder, removeTreeAside } from "../host/mounts.ts";
import { unmount } from "../host/native.ts";
import { isAlive } from "../host/owner.ts";
import { readSnapshots } from "../snapshot/snapshot-store.ts";
import { endAll } from "./adopt.ts";
import { reapDead } from "./reap.ts";
import { lockSpace } from "./space-lock.ts";
import { listDurableSpaces, listSandboxes, listSpaces } from "./state.ts";

/**
 * Ends and removes every sandbox and snapshot of a home, also those that a server keeps, so that nothing of it runs or is mounted on this host
 * and its directory can be removed as any other. Images, tokens and the audit log stay.
 */

export interface Reset {
  readonly sandboxes: readonly string[];
  readonly snapshots: readonly string[];
}

/** Throws an AleError `space-in-use` while a process has sandboxes in the home; then nothing is removed. */
export async function resetHome(home: string): Promise<Reset> {
  const cgroups = probeCgroups();
  for (const { owner } of listSpaces(home)) if (isAlive(owner)) throw inUse(home, owner.pid);
  using locks = new DisposableStack();
  const spaces = listDurableSpaces(home);
  for (const space of spaces) locks.use(lockOf(space));
  const { reaped, failures } = await reapDead(home, cgroups);
  const [failure] = failures;
  if (failure !== undefined)
    throw new AleError("reset-failed", `${failure.id} cannot be removed: ${failure.what}`, {
      next: "ale rock gc shows what is left; end those processes, then again",
    });
  const sandboxes = [...reaped, ...spaces.flatMap(listSandboxes)];
  const snapshots = spaces.flatMap((space) => readSnapshots(space).map(({ id }) => id));
  for (const space of spaces) {
    await endAll(space, cgroups);
    await removeTreeAside(space);
  }
  // What a server remembers of them, and the address of one that was killed.
  for (const name of ["served", "serve.json"])
    rmSync(join(home, "rock", name), { recursive: true, force: true });
  unmountRest(home);
  return { sandboxes, snapshots };
}

function lockOf(space: string): Disposable {
  try {
    return lockSpace(space);
  } catch (error) {
    if (!(error instanceof AleError)) throw error;
    throw new AleError(error.code, error.message, { next: "end that server first (kill)", cause: error });
  }
}

function unmountRest(home: string): void {
  const real = realpathSync(home);
  for (const path of mountsUnder(join(real, "rock")).reverse()) unmount(path);
  // The home itself may well be a disk of its own.
  const left = mountsUnder(real).find((path) => path !== real);
  if (left !== undefined)
    throw new AleError("reset-failed", `${left} is still mounted`, {
      next: `unmount it before you remove ${home}: umount ${left}`,
    });
}

const inUse = (home: string, pid: number): AleError =>
  new AleError("space-in-use", `process ${pid} has sandboxes in ${home}`, {
    next: `end it first: kill ${pid}`,
  });
