import { mkdirSync, readFileSync, rmSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { AleError, createWhole, processStart } from "@ale/core";
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
  const self: Owner = { pid: process.pid, start: processStart(process.pid) ?? "" };
  for (;;) {
    if (createWhole(path, JSON.stringify(self), 0o644)) return { [Symbol.dispose]: () => unlinkSync(path) };
    const owner = ownerOf(path);
    if (owner !== null && owner.pid === self.pid && owner.start === self.start)
      return { [Symbol.dispose]: () => undefined };
    if (owner !== null && isAlive(owner))
      throw new AleError("run-busy", `process ${owner.pid} is working on ${directory}`, {
        next: "wait for it, or give this run another name (--run NAME)",
      });
    rmSync(path, { force: true });
  }
}

/** Whether another living process works on the run. */
export function isRunLocked(directory: string): boolean {
  const owner = ownerOf(join(directory, FILE));
  return owner !== null && owner.pid !== process.pid && isAlive(owner);
}

function ownerOf(path: string): Owner | null {
  try {
    return Owner.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return null;
  }
}

const isAlive = (owner: Owner): boolean => processStart(owner.pid) === owner.start;
