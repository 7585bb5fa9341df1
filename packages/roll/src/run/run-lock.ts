import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { z } from "zod";

/**
 * One process at a time works on a run. The lock is a file that names its owner by pid and start time; one whose owner is gone, as after
 * kill -9, is taken over. The owner may lock again what it has locked; the outermost lock counts.
 */
const Owner = z.object({ pid: z.number().int().positive(), start: z.string() });
type Owner = z.infer<typeof Owner>;

const FILE = "lock.json";

/** Throws `run-busy` when another living process works on the run. */
export function lockRun(directory: string): Disposable {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, FILE);
  const self: Owner = { pid: process.pid, start: startOf(process.pid) ?? "" };
  for (;;) {
    if (created(path, self)) return { [Symbol.dispose]: () => unlinkSync(path) };
    const owner = ownerOf(path);
    if (owner !== null && owner.pid === self.pid && owner.start === self.start)
      return { [Symbol.dispose]: () => undefined };
    if (owner !== null && isAlive(owner))
      throw new AleError("run-busy", `process ${owner.pid} is working on ${directory}`, {
        next: "wait for it, or give this run another name (--run NAME)",
      });
    remove(path);
  }
}

/** Whether another living process works on the run. */
export function isRunLocked(directory: string): boolean {
  const owner = ownerOf(join(directory, FILE));
  return owner !== null && owner.pid !== process.pid && isAlive(owner);
}

/** Appears whole or not at all: a half-written lock would look like nobody's. */
function created(path: string, owner: Owner): boolean {
  const draft = `${path}.${owner.pid}`;
  writeFileSync(draft, JSON.stringify(owner));
  try {
    linkSync(draft, path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw cause;
  } finally {
    unlinkSync(draft);
  }
}

function ownerOf(path: string): Owner | null {
  try {
    return Owner.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return null;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
  }
}

/** A pid is used again after a while; together with its start time it is not. */
const isAlive = (owner: Owner): boolean => startOf(owner.pid) === owner.start;

/** Start time in clock ticks since boot (proc(5), field 22 of stat); null when there is no such process. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name may hold spaces and brackets; fields are counted from behind the last bracket.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
