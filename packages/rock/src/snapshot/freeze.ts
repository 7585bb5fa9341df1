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

/** Throws an AleError `freeze-failed`; whatever happens, the sandbox runs afterwards. */
export async function whileFrozen<T>(host: CgroupHost, id: string, work: () => Promise<T>): Promise<T> {
  const freezer = freezerOf(host, id);
  if (freezer === undefined) throw failed(id, "this host has no freezer for control groups");
  try {
    writeFileSync(freezer.file, freezer.freeze);
    const deadline = performance.now() + WAIT_MS;
    while (!freezer.frozen()) {
      if (performance.now() > deadline) throw failed(id, "its processes cannot be stopped now");
      await sleep(1);
    }
    return await work();
  } finally {
    if (existsSync(freezer.file)) writeFileSync(freezer.file, freezer.thaw);
  }
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
    next: "take the snapshot with `processes: restart`",
  });
