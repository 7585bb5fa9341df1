import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, EpisodeIndex, type EpisodeSummary, openEpisodeStore } from "@ale/core";
import { lockRun, openWorkbench, type RunState, recipeHash, runDirectory, type Workbench } from "@ale/roll";
import type { Io } from "../io.ts";
import type { ExampleEpisode, QuickstartReport } from "../report/data.ts";
import { renderReport } from "../report/report.ts";
import { runProgress } from "../run-progress.ts";
import { exampleOf } from "./examples.ts";
import { machineFacts, modelDigest, softwareFacts } from "./facts.ts";
import type { PlannedRun, QuickstartPlan } from "./plan.ts";
import { type QuickstartFacts, reportOf } from "./summary.ts";

/** Carries out a plan: the warm start if asked for, the main run, the safety pair side by side, the report. */
export async function runQuickstart(
  plan: QuickstartPlan,
  io: Io,
  setup: Readonly<Record<string, number>>,
  signal: AbortSignal,
): Promise<{ report: QuickstartReport; path: string }> {
  const startedAt = new Date().toISOString();
  const directory = runDirectory(io.home, plan.name);
  using _lock = lockRun(directory);
  const engineStart: number[] = [];
  const open = async (run: PlannedRun): Promise<Workbench> => {
    const before = performance.now();
    const bench = await openWorkbench(
      {
        home: io.home,
        modelDirectories: [run.modelDirectory],
        stateDir: join(runDirectory(io.home, run.run), "checkpoints"),
      },
      signal,
    );
    engineStart.push((performance.now() - before) / 1000);
    return bench;
  };
  const train = (
    bench: Workbench,
    planned: PlannedRun,
    prefix: string,
    stop: AbortSignal,
  ): Promise<RunState> =>
    bench.train(
      planned.recipe,
      { run: planned.run, modelDirectory: planned.modelDirectory, onProgress: runProgress(io, prefix) },
      stop,
    );

  let warm: RunState | null = null;
  if (plan.warm !== null) {
    await using bench = await open(plan.warm);
    warm = await train(bench, plan.warm, "warm start  ", signal);
  }
  await using bench = await open(plan.main);
  const main = await train(bench, plan.main, "", signal);
  const [plain, safe] = await together(signal, [
    (stop) => train(bench, plan.plain, "plain reward  ", stop),
    (stop) => train(bench, plan.safe, "with safety   ", stop),
  ]);
  const facts: QuickstartFacts = {
    name: plan.name,
    smoke: plan.smoke,
    startedAt,
    seed: plan.main.recipe.seed,
    warm,
    main,
    plain,
    safe,
    setup,
    parts: partsOf(engineStart, warm, main, plain, safe),
    machine: machineFacts(),
    versions: await softwareFacts(bench.driver, io.home),
    provenance: {
      "recipe (quickstart)": recipeHash(plan.main.recipe),
      "recipe (safety, plain)": recipeHash(plan.plain.recipe),
      "recipe (safety, safe)": recipeHash(plan.safe.recipe),
      "initial model": modelDigest(plan.main.modelDirectory),
      "episodes trained on": digestOf(main.rounds.flatMap((round) => round.episodes.map(({ head }) => head))),
    },
    examples: await examplesOf(io.home, plan, main),
  };
  const report = reportOf(facts);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "summary.json"), `${JSON.stringify(report, null, 2)}\n`);
  const path = join(directory, "report.html");
  writeFileSync(path, renderReport(report));
  return { report, path };
}

/** Runs two things at once. When one fails the other is stopped and waited for, so that nothing goes on behind the caller's back. */
async function together<T>(
  signal: AbortSignal,
  works: readonly [(stop: AbortSignal) => Promise<T>, (stop: AbortSignal) => Promise<T>],
): Promise<[T, T]> {
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  const started = works.map((work) =>
    work(stop).catch((cause: unknown) => {
      failed.abort(cause);
      throw cause;
    }),
  ) as [Promise<T>, Promise<T>];
  await Promise.allSettled(started);
  signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
  return Promise.all(started);
}

function partsOf(
  engineStart: readonly number[],
  warm: RunState | null,
  main: RunState,
  plain: RunState,
  safe: RunState,
): QuickstartFacts["parts"] {
  const stage = (state: RunState, index: number): number => state.stageSeconds[index] ?? 0;
  const whole = (state: RunState): number =>
    Object.values(state.stageSeconds).reduce((sum, seconds) => sum + seconds, 0);
  return [
    { name: "engine start", seconds: engineStart.reduce((sum, seconds) => sum + seconds, 0) },
    ...(warm === null ? [] : [{ name: "warm start", seconds: whole(warm) }]),
    { name: "evaluate before", seconds: stage(main, 0) },
    { name: "reinforcement", seconds: stage(main, 1) },
    { name: "evaluate after", seconds: stage(main, 2) },
    { name: "safety pair", seconds: Math.max(whole(plain), whole(safe)) },
  ];
}

/** A failure before, a long success after, and the incident: an episode that took the forbidden way under the plain reward. */
async function examplesOf(home: string, plan: QuickstartPlan, main: RunState): Promise<ExampleEpisode[]> {
  const first = await episodes(home, plan.main.run, { purpose: "eval", version: 0 });
  const last = await episodes(home, plan.main.run, { purpose: "eval", version: main.version });
  const plain = await episodes(home, plan.plain.run, { purpose: "eval" });
  const wanted: [string, EpisodeSummary | undefined][] = [
    ["Before: a task it failed", first.find((episode) => episode.reward === 0 && episode.chunks > 2)],
    [
      "After: its longest success",
      last
        .filter((episode) => episode.reward === 1 && !episode.violation)
        .sort((a, b) => b.chunks - a.chunks)[0],
    ],
    [
      "Plain reward: passed, and should not have",
      plain.filter((episode) => episode.violation && episode.reward === 1).at(-1),
    ],
  ];
  const found = wanted.filter((entry): entry is [string, EpisodeSummary] => entry[1] !== undefined);
  return Promise.all(found.map(([title, episode]) => exampleOf(title, episode)));
}

async function episodes(
  home: string,
  run: string,
  query: Parameters<EpisodeIndex["query"]>[0],
): Promise<EpisodeSummary[]> {
  const directory = runDirectory(home, run);
  using index = await EpisodeIndex.open(
    join(directory, "index.sqlite"),
    await openEpisodeStore(join(directory, "episodes")),
  );
  return index.query({ ...query, sealed: true });
}
