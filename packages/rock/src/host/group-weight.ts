import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { CGROUP_PARENT, cgroupMounts } from "./cgroup.ts";

/**
 * What all sandboxes together weigh where processors are short. As groups come, that is as much as one process: where the host's processes
 * have no groups of their own, each of them got as much as all sandboxes, and those ran into their time limits beside a training engine with
 * a thread for each processor. They weigh one process a processor: no more than any other thread on it, however many they are, and each
 * sandbox still has its own limit.
 */

export interface Weighing {
  readonly mounts: ReturnType<typeof cgroupMounts>;
  /** Of this process, as in /proc/self/cgroup. */
  readonly own: string;
  readonly processors: number;
}

const here = (): Weighing => ({
  mounts: cgroupMounts(),
  own: readFileSync("/proc/self/cgroup", "utf8"),
  processors: cpus().length,
});

/** By version: the file, what a group has when it is made, and the most that it can have. */
const FILES = {
  cgroup: { name: "cpu.shares", made: 1024, most: 262_144 },
  cgroup2: { name: "cpu.weight", made: 100, most: 10_000 },
} as const;

/** Where the host's processes are grouped as well, and where somebody has set a weight, that stays. */
export function weighSandboxes({ mounts, own, processors }: Weighing = here()): void {
  for (const { target, type, options } of mounts) {
    if (type !== "cgroup" && type !== "cgroup2") continue;
    if (type === "cgroup" && !options.includes("cpu")) continue;
    if (!isUngrouped(own, type)) continue;
    const { name, made, most } = FILES[type];
    const file = join(target, CGROUP_PARENT, name);
    try {
      if (Number(readFileSync(file, "utf8")) === made)
        writeFileSync(file, String(Math.min(made * processors, most)));
    } catch {
      // There is no such controller, or no right to it: they weigh what they weighed.
    }
  }
}

/** Whether this process stands beside the sandboxes' group, rather than in another one. */
const isUngrouped = (own: string, type: keyof typeof FILES): boolean =>
  own.split("\n").some((line) => {
    const [, controllers = "", path] = line.split(":");
    return path === "/" && (type === "cgroup2" ? controllers === "" : controllers.split(",").includes("cpu"));
  });
