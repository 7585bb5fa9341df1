import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { rmdir } from "node:fs/promises";
import { join } from "node:path";

/** The host's control groups: which kind there is, and what a sandbox left in them. */

export type CgroupKind = "v1" | "v2" | "hybrid" | "none";

export interface CgroupHost {
  readonly kind: CgroupKind;
  /** Mount points of every hierarchy, v2 last. */
  readonly hierarchies: readonly string[];
  /** Where v2 is mounted beside v1. crun refuses to run where a v1 host keeps controllers there. */
  readonly unified: string | undefined;
  /** What can be controlled in groups that we may make. */
  readonly controllers: readonly string[];
}

export const CGROUP_PARENT = "ale";
const REQUIRED = ["cpu", "memory", "pids"] as const;

export const cgroupsPath = (id: string): string => `/${CGROUP_PARENT}/${id}`;

/** Controllers that a sandbox's limits need and the host does not offer. */
export const missingControllers = (host: CgroupHost): string[] =>
  REQUIRED.filter((name) => !host.controllers.includes(name));

export function probeCgroups(mountinfo = readFileSync("/proc/self/mountinfo", "utf8")): CgroupHost {
  const mounts = parseCgroupMounts(mountinfo);
  const v1 = mounts.filter((mount) => mount.type === "cgroup");
  const v2 = mounts.find((mount) => mount.type === "cgroup2")?.target;
  const kind = v1.length === 0 ? (v2 === undefined ? "none" : "v2") : v2 === undefined ? "v1" : "hybrid";
  const v1Controllers = v1.filter((mount) => isWritable(mount.target)).flatMap((mount) => mount.options);
  return {
    kind,
    hierarchies: [...v1.map((mount) => mount.target), ...(v2 === undefined ? [] : [v2])],
    unified: kind === "hybrid" ? v2 : undefined,
    // On a hybrid host the runtime is kept from v2, so that its controllers do not count.
    controllers: kind === "v2" ? v2Controllers(v2!) : v1Controllers,
  };
}

interface CgroupMount {
  readonly target: string;
  readonly type: string;
  /** Of the file system; on v1 its controllers are among them. */
  readonly options: readonly string[];
}

/** Of this host. */
export const cgroupMounts = (): CgroupMount[] =>
  parseCgroupMounts(readFileSync("/proc/self/mountinfo", "utf8"));

export function parseCgroupMounts(mountinfo: string): CgroupMount[] {
  return mountinfo.split("\n").flatMap((line) => {
    const [left, right] = line.split(" - ");
    const target = left?.split(" ")[4];
    const [type, , options] = right?.split(" ") ?? [];
    if (target === undefined || (type !== "cgroup" && type !== "cgroup2")) return [];
    return [{ target, type, options: options?.split(",") ?? [] }];
  });
}

function v2Controllers(mountPoint: string): string[] {
  if (!isWritable(mountPoint)) return [];
  return readFileSync(join(mountPoint, "cgroup.controllers"), "utf8").trim().split(" ");
}

function isWritable(hierarchy: string): boolean {
  const parent = join(hierarchy, CGROUP_PARENT);
  try {
    mkdirSync(parent);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EEXIST" && mayWrite(parent);
  }
}

/** Another user may have made it. */
function mayWrite(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Every process in the sandbox's groups, its PID 1 included. */
export function processesOf(host: CgroupHost, id: string): number[] {
  const pids = new Set<number>();
  for (const hierarchy of host.hierarchies) {
    const file = join(hierarchy, CGROUP_PARENT, id, "cgroup.procs");
    if (!existsSync(file)) continue;
    try {
      for (const line of readFileSync(file, "utf8").split("\n")) if (line !== "") pids.add(Number(line));
    } catch {
      // The group ended between the two calls.
    }
  }
  return [...pids];
}

/** Ends every process in the sandbox's groups. True when none is left. */
export function killGroup(host: CgroupHost, id: string): boolean {
  for (const hierarchy of host.hierarchies) {
    const file = join(hierarchy, CGROUP_PARENT, id, "cgroup.kill");
    try {
      if (existsSync(file)) writeFileSync(file, "1");
    } catch {
      // Gone meanwhile.
    }
  }
  const pids = processesOf(host, id);
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone meanwhile.
    }
  }
  // A v1 group that is frozen keeps its processes from dying.
  for (const hierarchy of host.hierarchies) {
    const file = join(hierarchy, CGROUP_PARENT, id, "freezer.state");
    try {
      if (existsSync(file) && readFileSync(file, "utf8").trim() !== "THAWED") writeFileSync(file, "THAWED");
    } catch {
      // Gone meanwhile.
    }
  }
  return pids.length === 0;
}

/** Ids of all sandboxes that have a group. */
export function groupIds(host: CgroupHost): string[] {
  const ids = new Set<string>();
  for (const hierarchy of host.hierarchies) {
    const parent = join(hierarchy, CGROUP_PARENT);
    if (!existsSync(parent)) continue;
    for (const entry of readdirSync(parent, { withFileTypes: true }))
      if (entry.isDirectory()) ids.add(entry.name);
  }
  return [...ids];
}

/** Removes the sandbox's empty groups, beside the event loop: the kernel takes its time for each. True when none is left. */
export async function removeGroup(host: CgroupHost, id: string): Promise<boolean> {
  const groups = host.hierarchies.map((hierarchy) => join(hierarchy, CGROUP_PARENT, id));
  const removed = await Promise.all(
    groups.map((group) =>
      rmdir(group).then(
        () => true,
        () => !existsSync(group),
      ),
    ),
  );
  return removed.every(Boolean);
}
