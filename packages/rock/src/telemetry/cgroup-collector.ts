import { telemetryNow } from "@ale/core";
import type { CollectorKind, Observed, Tell } from "./collector.ts";
import { type Counters, ResourceWatch } from "./resources.ts";

/** Reads the counters of each sandbox's control groups once a second. */

const EVERY_MS = 1_000;
/** A drain does not make another sample of what was sampled just now. */
const RECENT_MS = 50;

export interface CgroupSources {
  /** Undefined where the host does not count it. */
  readonly ioBytes: (sandbox: string) => number | undefined;
  readonly programs: (sandbox: string) => number | undefined;
}

interface Watched {
  readonly sandbox: Observed;
  readonly watch: ResourceWatch;
  readonly timer: NodeJS.Timeout;
  sampledAt: number;
}

export function cgroupCollector(sources: CgroupSources): CollectorKind {
  return {
    sources: ["cgroup"],
    start: (tell) => {
      const watched = new Map<string, Watched>();
      const forget = (id: string): void => {
        clearInterval(watched.get(id)?.timer);
        watched.delete(id);
      };
      return {
        follow: (sandbox) => {
          const first = countersOf(sandbox, sources);
          if (first === undefined) return;
          const watch = new ResourceWatch(sandbox.limits, first);
          // Each at its own time: they began at different ones.
          const timer = setInterval(() => sample(sandbox.id), EVERY_MS).unref();
          watched.set(sandbox.id, { sandbox, watch, timer, sampledAt: first.at });
        },
        forget,
        drain: async (id) => {
          const one = watched.get(id);
          if (one !== undefined && telemetryNow() - one.sampledAt > RECENT_MS) sample(id);
        },
        [Symbol.dispose]: () => {
          for (const id of [...watched.keys()]) forget(id);
        },
      };

      function sample(id: string): void {
        const one = watched.get(id);
        if (one !== undefined) take(one, sources, tell);
      }
    },
  };
}

function take(one: Watched, sources: CgroupSources, tell: Tell): void {
  const next = countersOf(one.sandbox, sources);
  if (next === undefined) return;
  one.sampledAt = next.at;
  for (const record of one.watch.take(next)) tell({ ...record, sandbox: one.sandbox.id });
}

function countersOf(sandbox: Observed, sources: CgroupSources): Counters | undefined {
  const stats = sandbox.stats();
  if (stats === undefined) return undefined;
  const { id } = sandbox;
  return { at: telemetryNow(), stats, ioBytes: sources.ioBytes(id), programs: sources.programs(id) };
}
