import { z } from "zod";
import type { SandboxStats } from "../port/sandbox.ts";
import type { Engine } from "./engine.ts";

/** What a container uses, as far as its engine says. */

const Stats = z.object({
  cpu_stats: z
    .object({
      cpu_usage: z.object({ total_usage: z.number().nullish() }).nullish(),
      throttling_data: z.object({ throttled_periods: z.number().nullish() }).nullish(),
    })
    .nullish(),
  memory_stats: z
    .object({
      usage: z.number().nullish(),
      max_usage: z.number().nullish(),
      stats: z.record(z.string(), z.unknown()).nullish(),
    })
    .nullish(),
  pids_stats: z.object({ current: z.number().nullish() }).nullish(),
});

const Inspected = z.object({ SizeRw: z.number().nullish() });

export type EngineStats = Omit<SandboxStats, "outputBytes" | "uptimeMs" | "idleMs">;

/** Numbers that the engine does not give (kills at the memory limit, refused forks, inodes) are null. */
export async function statsOf(engine: Engine, name: string): Promise<EngineStats> {
  const query = { stream: false, "one-shot": true };
  const [stats, inspected] = await Promise.all([
    engine.json("GET", `/containers/${name}/stats`, Stats, { query }),
    engine.json("GET", `/containers/${name}/json`, Inspected, { query: { size: true } }),
  ]);
  const { cpu_stats: cpu, memory_stats: memory, pids_stats: pids } = stats;
  const cpuNs = cpu?.cpu_usage?.total_usage;
  return {
    cpuMs: cpuNs == null ? null : cpuNs / 1e6,
    throttledPeriods: cpu?.throttling_data?.throttled_periods ?? null,
    memoryBytes: memory?.usage ?? null,
    memoryPeakBytes: memory?.max_usage ?? null,
    oomKills: null,
    // PID 1 is not the agent's.
    pids: pids?.current == null ? null : Math.max(0, pids.current - 1),
    pidsRefused: null,
    diskBytes: inspected.SizeRw ?? null,
    diskInodes: null,
  };
}
