import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { seedOf } from "../../packages/core/src/index.ts";
import { defaultFilter } from "../../packages/data/src/index.ts";
import type { Upstream } from "../../packages/gateway/src/index.ts";
import { defaultHome } from "../../packages/rock/src/index.ts";
import {
  demonstrationTasks,
  type EpisodeDeps,
  familiesOf,
  type Guarding,
  openWorkbench,
  rolloutGroups,
  watchOf,
} from "../../packages/roll/src/index.ts";
import { type BenchContext, compared, median, type Result } from "../benchmark.ts";

/**
 * What watching costs the quickstart's rollouts: its short families in sandboxes without a network, sampled from the model that ships. Ways of
 * watching take turns within one run, each between two plain rollouts of the same tasks with which it is compared, because a machine has
 * other things to do.
 */

const WAYS: Readonly<Record<string, { readonly safety: Guarding; readonly atLeast?: number }>> = {
  "rules and responses, no collectors": {
    safety: { responses: "on", collectors: "none" },
    atLeast: 0.95,
  },
  "the default collectors": { safety: { responses: "on", collectors: "default" }, atLeast: 0.95 },
  "the default collectors and files": {
    safety: {
      responses: "on",
      collectors: ["nflog", "sink", "dns", "proxy", "audit", "kernel-log", "files"],
    },
  },
  "all collectors": { safety: { responses: "on", collectors: "all" } },
};

export async function watched(context: BenchContext): Promise<Result[]> {
  const { signal } = context;
  const directory = await mkdtemp(join(tmpdir(), "ale-watched-"));
  try {
    const model = resolve(import.meta.dirname, "../../models/nano-warm");
    const workbench = { home: defaultHome(), modelDirectories: [model], stateDir: join(directory, "state") };
    await using bench = await openWorkbench(workbench, signal);
    const deps = await bench.episodeDeps(model, join(directory, "episodes"));
    const upstream = await bench.sampler(model, null, 0, signal);
    const episodes = context.quick ? 48 : 96;
    const measure = (safety: Guarding | undefined) => rollouts(deps, upstream, safety, episodes, signal);
    await measure(undefined);
    const pairs = new Map(Object.keys(WAYS).map((name) => [name, [] as Pair[]]));
    for (let round = 0; round < (context.quick ? 3 : 9); round++) {
      let before = await measure(undefined);
      for (const [name, { safety }] of Object.entries(WAYS)) {
        const value = await measure(safety);
        const after = await measure(undefined);
        const rate = (before.rate + after.rate) / 2;
        pairs.get(name)!.push({ value, plain: { rate, cpuMs: (before.cpuMs + after.cpuMs) / 2 } });
        before = after;
      }
      context.say([...pairs].map(([name, all]) => `${name} ${shown(all.at(-1)!)}`).join("; "));
    }
    return Object.entries(WAYS).flatMap(([name, { atLeast }]) => {
      const bound = atLeast === undefined ? undefined : { atLeast };
      const figure = (what: string, key: keyof Measured, unit: string, limit?: { atLeast: number }) => {
        const all = pairs.get(name)!;
        const value = median(all.map((pair) => pair.value[key]));
        const ratio = median(all.map((pair) => pair.value[key] / pair.plain[key]));
        return compared(`${what} with ${name}`, value, unit, value / ratio, limit);
      };
      return [
        figure("rollouts", "rate", "episodes/s", bound),
        figure("processor time of this process for an episode", "cpuMs", "ms"),
      ];
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

interface Measured {
  /** Episodes a second. */
  readonly rate: number;
  /** Of this process and its threads, for an episode: neither the sandboxes' nor the engine's. Hardly depends on what else runs here. */
  readonly cpuMs: number;
}

interface Pair {
  readonly value: Measured;
  /** The mean of the plain rollouts before and after. */
  readonly plain: Measured;
}

const shown = ({ value, plain }: Pair): string =>
  `${(value.rate / plain.rate).toFixed(3)} (${value.cpuMs.toFixed(1)} ms, plain ${plain.cpuMs.toFixed(1)} ms)`;

async function rollouts(
  deps: EpisodeDeps,
  upstream: Upstream,
  safety: Guarding | undefined,
  episodes: number,
  signal: AbortSignal,
): Promise<Measured> {
  const tasks = demonstrationTasks(familiesOf("short"), episodes);
  const began = performance.now();
  const cpu = process.cpuUsage();
  await rolloutGroups(
    deps,
    {
      groups: tasks.map((task, i) => ({ task, group: `bench/${i}`, finished: [] })),
      episodesPerGroup: 1,
      run: "bench",
      purpose: "eval",
      actor: (group) => ({ type: "policy", version: 0, upstream, seed: seedOf(group) }),
      concurrency: 96,
      maxRerolls: 0,
      filter: defaultFilter,
      watch: watchOf(safety, "."),
    },
    signal,
  );
  const { user, system } = process.cpuUsage(cpu);
  return {
    rate: episodes / ((performance.now() - began) / 1000),
    cpuMs: (user + system) / 1000 / episodes,
  };
}
