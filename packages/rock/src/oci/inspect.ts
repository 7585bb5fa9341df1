import { readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { CGROUP_PARENT, probeCgroups, processesOf } from "../host/cgroup.ts";
import { mountsUnder } from "../host/mounts.ts";
import { isAlive } from "../host/owner.ts";
import { readSnapshots } from "../snapshot/snapshot-store.ts";
import { deadTraces } from "../telemetry/tracefs.ts";
import { groupOwner } from "./group-owner.ts";
import { layersOf } from "./layer.ts";
import { isOwned } from "./space-lock.ts";
import { entries, listDurableSpaces, listSandboxes, listSpaces, readSandboxState } from "./state.ts";

/** What sandboxes of a home have on the host, and what of it is nobody's: the proof that nothing was left behind. Changes nothing. */

export interface SpaceReport {
  readonly directory: string;
  /** `library`: of one process, gone with it. `durable`: kept. */
  readonly kind: "library" | "durable";
  /** Whether a process owns it now. */
  readonly owned: boolean;
  readonly sandboxes: readonly string[];
}

export interface Orphan {
  readonly type: "process" | "mount" | "cgroup" | "loop" | "directory" | "trace";
  /** Number, mount point, group, device, path, or name of an instance of the kernel's tracer. */
  readonly what: string;
}

export interface HostReport {
  readonly spaces: readonly SpaceReport[];
  /** Belong to no living owner and are no files that a durable driver keeps. */
  readonly orphans: readonly Orphan[];
}

export function inspectHost(home: string): HostReport {
  const library = listSpaces(home).map(({ directory, owner }) => ({ directory, owned: isAlive(owner) }));
  const durable = listDurableSpaces(home).map((directory) => ({ directory, owned: isOwned(directory) }));
  const spaces = [
    ...library.map((space) => ({ ...space, kind: "library" as const })),
    ...durable.map((space) => ({ ...space, kind: "durable" as const })),
  ].map((space) => ({ ...space, sandboxes: listSandboxes(space.directory) }));
  const traces = deadTraces().map((what) => ({ type: "trace" as const, what }));
  return { spaces, orphans: [...spaces.filter((space) => !space.owned).flatMap(orphansOf), ...traces] };
}

function orphansOf(space: SpaceReport): Orphan[] {
  return [
    ...processes(space).map((what) => ({ type: "process" as const, what })),
    ...groups(space).map((what) => ({ type: "cgroup" as const, what })),
    ...mounts(space).map((what) => ({ type: "mount" as const, what })),
    ...loops(space).map((what) => ({ type: "loop" as const, what })),
    ...directories(space).map((what) => ({ type: "directory" as const, what })),
  ];
}

/** Those in groups of its sandboxes, and those that work in its directory. */
function processes({ directory, sandboxes }: SpaceReport): string[] {
  const host = probeCgroups();
  const inside = sandboxes
    .filter((id) => groupOwner(directory, host, id) !== "another's")
    .flatMap((id) => processesOf(host, id));
  const beside = entries("/proc").filter((pid) => /^\d+$/.test(pid) && worksIn(pid, directory));
  return [...new Set([...inside.map(String), ...beside])];
}

function worksIn(pid: string, directory: string): boolean {
  try {
    const cwd = readlinkSync(`/proc/${pid}/cwd`);
    return cwd === directory || cwd.startsWith(`${directory}/`);
  } catch {
    return false;
  }
}

function groups({ directory, sandboxes }: SpaceReport): string[] {
  const host = probeCgroups();
  const parents = host.hierarchies.map((hierarchy) => join(hierarchy, CGROUP_PARENT));
  return parents.flatMap((parent) =>
    entries(parent)
      .filter((name) => sandboxes.includes(name) && groupOwner(directory, host, name) !== "another's")
      .map((name) => join(parent, name)),
  );
}

/** Layers that a durable space keeps stay mounted. */
function mounts(space: SpaceReport): string[] {
  const { directory, kind } = space;
  const kept = keptLayers(space).map((id) => join(layersOf(directory), id));
  return mountsUnder(directory).filter(
    (path) => kind === "library" || (path !== directory && !kept.includes(path)),
  );
}

function loops(space: SpaceReport): string[] {
  const kept = keptLayers(space).map((id) => `${join(layersOf(space.directory), id)}.img`);
  return entries("/sys/block").filter((name) => {
    const file = read(join("/sys/block", name, "loop/backing_file"));
    return file.startsWith(`${space.directory}/`) && !kept.includes(file);
  });
}

function directories(space: SpaceReport): string[] {
  if (space.kind === "library") return [space.directory];
  const kept = keptLayers(space);
  const layers = entries(layersOf(space.directory)).filter(
    (name) => !kept.includes(name.replace(/\.img$/, "")),
  );
  const torn = space.sandboxes.filter((id) => readSandboxState(space.directory, id)?.ready !== true);
  return [
    ...layers.map((name) => join(layersOf(space.directory), name)),
    ...torn.map((id) => join(space.directory, id)),
  ];
}

/** Of sandboxes that are ready, and of snapshots. */
function keptLayers({ directory, kind, sandboxes }: SpaceReport): string[] {
  if (kind === "library") return [];
  const states = sandboxes.flatMap((id) => readSandboxState(directory, id) ?? []);
  return [
    ...states.filter((state) => state.ready).flatMap((state) => [state.layer, ...state.lower]),
    ...readSnapshots(directory).flatMap((record) => record.lower),
  ];
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}
