import { z } from "zod";
import type { ReapReport } from "../port/driver.ts";
import { removeContainer } from "./docker-container.ts";
import type { Engine } from "./engine.ts";
import { LABEL, ownerState } from "./labels.ts";

/** Removes the containers of processes that are gone, and leaves those of living processes alone, on whatever host they are. */

/**
 * An engine may serve several hosts (through ssh, or a socket mounted into a container). Of a process on another one it can only be said
 * that its sandbox runs, and then it lives: a sandbox ends with its owner. What neither runs nor is being made is a remnant.
 */
const MAKING_MS = 3_600_000;

const Found = z.object({
  Id: z.string(),
  State: z.string(),
  Created: z.number(),
  Labels: z
    .record(z.string(), z.string())
    .nullish()
    .transform((labels) => labels ?? {}),
});
export type FoundContainer = z.infer<typeof Found>;

export function findSandboxes(engine: Engine, signal?: AbortSignal): Promise<FoundContainer[]> {
  const filters = JSON.stringify({ label: [`${LABEL.kind}=sandbox`] });
  return engine.json("GET", "/containers/json", z.array(Found), { query: { all: true, filters } }, signal);
}

export async function reapContainers(engine: Engine): Promise<ReapReport> {
  const report = {
    reaped: [] as string[],
    alive: [] as string[],
    failures: [] as { id: string; what: string }[],
  };
  for (const found of await findSandboxes(engine)) {
    const id = found.Labels[LABEL.id] ?? found.Id;
    if (!isRemnant(found)) {
      report.alive.push(id);
      continue;
    }
    try {
      await removeContainer(engine, found.Id);
      report.reaped.push(id);
    } catch (error) {
      report.failures.push({ id, what: error instanceof Error ? error.message : String(error) });
    }
  }
  return report;
}

function isRemnant(found: FoundContainer): boolean {
  const state = ownerState(found.Labels[LABEL.owner]);
  if (state !== "foreign") return state === "dead";
  const ageMs = Date.now() - found.Created * 1000;
  return found.State !== "running" && found.State !== "paused" && ageMs > MAKING_MS;
}
