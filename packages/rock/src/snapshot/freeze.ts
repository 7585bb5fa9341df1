import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { CGROUP_PARENT, type CgroupHost } from "../host/cgroup.ts";

/** Stops every process of a sandbox, PID 1 included, between two instructions. */

interface Freezer {
  readonly file: string;
  readonly freeze: string;
  readonly thaw: string;
  frozen(): boolean;
}

const WAIT_MS = 2_000;

/** Throws an AleError `freeze-failed`; whatever happens, the sandbox runs afterwards, unless it was frozen before. */
export async function whileFrozen<T>(host: CgroupHost, id: string, work: () => Promise<T>): Promise<T> {
  if (freezerOf(host, id)?.frozen() === true) return work();
  await freezeGroup(host, id);
  try {
    return await work();
  } finally {
    thawGroup(host, id);
  }
}

/** Throws an AleError `freeze-failed`; then the sandbox runs. */
export async function freezeGroup(host: CgroupHost, id: string): Promise<void> {
  const freezer = freezerOf(host, id);
  if (freezer === undefined) throw failed(id, "this host has no freezer for control groups");
  try {
    writeFileSync(freezer.file, freezer.freeze);
    const deadline = performance.now() + WAIT_MS;
    while (!freezer.frozen()) {
      if (performance.now() > deadline) throw failed(id, "its processes cannot be stopped now");
      await sleep(1);
    }
  } catch (error) {
    thawGroup(host, id);
    throw error;
  }
}

/** False also where it is gone. */
export function isFrozen(host: CgroupHost, id: string): boolean {
  try {
    return freezerOf(host, id)?.frozen() ?? false;
  } catch {
    return false;
  }
}

/** One that is gone or not frozen stays as it is. */
export function thawGroup(host: CgroupHost, id: string): void {
  const freezer = freezerOf(host, id);
  if (freezer !== undefined) writeFileSync(freezer.file, freezer.thaw);
}

function freezerOf(host: CgroupHost, id: string): Freezer | undefined {
  for (const hierarchy of host.hierarchies) {
    const part = (name: string): string => join(hierarchy, CGROUP_PARENT, id, name);
    if (existsSync(part("freezer.state")))
      return {
        file: part("freezer.state"),
        freeze: "FROZEN",
        thaw: "THAWED",
        frozen: () => readFileSync(part("freezer.state"), "utf8").trim() === "FROZEN",
      };
    // A group of the v2 hierarchy beside v1 holds no processes.
    if (host.kind === "v2" && existsSync(part("cgroup.freeze")))
      return {
        file: part("cgroup.freeze"),
        freeze: "1",
        thaw: "0",
        frozen: () => /^frozen 1$/m.test(readFileSync(part("cgroup.events"), "utf8")),
      };
  }
  return undefined;
}

const failed = (id: string, why: string): AleError =>
  new AleError("freeze-failed", `sandbox ${id} cannot be frozen: ${why}`, {
    next: "for a snapshot: take it with `processes: restart`",
  });
