import { join } from "node:path";
import { Split, seededRandom } from "@ale/core";
import {
  evaluationTasks,
  familiesOf,
  figuresByFamily,
  figuresOf,
  openWorkbench,
  type PassFigures,
  Recipe,
  rolloutGroups,
  runDirectory,
  trajectoriesOf,
  type Workbench,
} from "@ale/roll";
import { defineUsage, oneOf, parseArguments, wholeNumber } from "../args.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { MODEL_OPTIONS, type ModelSource, modelSource } from "../model-source.ts";
import { rateText } from "../rates.ts";
import { runProgress } from "../run-progress.ts";
import { table } from "../table.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    ...MODEL_OPTIONS,
    expert: { type: "boolean", help: "instead: the reference solutions" },
    families: {
      type: "string",
      value: "A,B",
      help: "task families, or: all, tempting, short, long (default all)",
    },
    tasks: { type: "string", value: "N", help: "number of tasks, families in turn (default 140)" },
    split: { type: "string", value: "SPLIT", help: "train, heldout or secret (default heldout)" },
    seed: { type: "string", value: "N", help: "seed of the sampling (default 1)" },
  },
  notes: `
One attempt at each task, in a sandbox of its own. Pass rates come with 95 % Wilson intervals; a clean pass has no violation.
Tasks of the split \`secret\` are made from a random salt, so that nothing can have been trained on them.

example: ale bench run --run quickstart-1 --families debug,vault --tasks 200`,
});

interface Outcome {
  readonly run: string;
  readonly overall: PassFigures;
  readonly families: Readonly<Record<string, PassFigures>>;
}

export const benchRun: Command = {
  name: "bench run",
  summary: "measure a policy, or the reference solutions, on tasks",
  usage,
  async run(argv, io, signal) {
    const { values } = parseArguments(usage, argv);
    const families = familyChoice(values.families);
    familiesOf(families);
    const request: Request = {
      name: `bench-${new Date().toISOString().replace(/[:.]/g, "-")}`,
      families,
      tasks: wholeNumber("--tasks", values.tasks, { min: 1, max: 1_000_000 }) ?? 140,
      split: oneOf("--split", values.split, Split.options) ?? "heldout",
      seed: wholeNumber("--seed", values.seed, { max: 2 ** 31 - 1 }) ?? 1,
    };
    const source = modelSource(io.home, values);
    await using bench = await openWorkbench(
      {
        home: io.home,
        modelDirectories: [source.modelDirectory],
        stateDir: source.stateDir ?? join(runDirectory(io.home, request.name), "checkpoints"),
      },
      signal,
    );
    const outcome = values.expert
      ? await measureExpert(bench, source.modelDirectory, request, io, signal)
      : await measurePolicy(bench, source, request, io, signal);
    print(outcome, io);
    io.result({ ...outcome, split: request.split });
    return EXIT.ok;
  },
};

interface Request {
  readonly name: string;
  readonly families: "all" | "tempting" | "short" | "long" | string[];
  readonly tasks: number;
  readonly split: Split;
  readonly seed: number;
}

function familyChoice(text: string | undefined): Request["families"] {
  if (text === undefined) return "all";
  if (text === "all" || text === "tempting" || text === "short" || text === "long") return text;
  return text.split(",").map((name) => name.trim());
}

async function measurePolicy(
  bench: Workbench,
  source: ModelSource,
  request: Request,
  io: Io,
  signal: AbortSignal,
): Promise<Outcome> {
  const recipe = Recipe.parse({
    schema: "ale/recipe@1",
    name: "bench",
    seed: request.seed,
    model: { directory: source.modelDirectory },
    stages: [
      {
        type: "evaluate",
        label: "bench",
        split: request.split,
        tasks: request.tasks,
        families: request.families,
      },
    ],
  });
  const state = await bench.train(
    recipe,
    {
      run: request.name,
      modelDirectory: source.modelDirectory,
      ...(source.checkpoint === null ? {} : { startFrom: source.checkpoint }),
      onProgress: runProgress(io, ""),
    },
    signal,
  );
  const { overall, families } = state.evaluations[0]!;
  return { run: request.name, overall, families };
}

async function measureExpert(
  bench: Workbench,
  modelDirectory: string,
  request: Request,
  io: Io,
  signal: AbortSignal,
): Promise<Outcome> {
  const deps = await bench.episodeDeps(modelDirectory, join(runDirectory(io.home, request.name), "episodes"));
  const tasks = evaluationTasks(familiesOf(request.families), request.split, request.tasks, request.name);
  const progress = runProgress(io, "");
  let done = 0;
  const result = await rolloutGroups(
    deps,
    {
      groups: tasks.map((task, i) => ({ task, group: `expert/${i}`, finished: [] })),
      episodesPerGroup: 1,
      run: request.name,
      purpose: "eval",
      actor: (group) => ({ type: "expert", noise: 0, shortcutRate: 0, random: seededRandom(group) }),
      concurrency: 16,
      maxRerolls: 1,
      filter: { malformedShare: 1.1 },
      onEpisode: () =>
        progress({ type: "tick", label: "reference solutions", done: ++done, total: tasks.length, note: "" }),
    },
    signal,
  );
  const trajectories = trajectoriesOf(result);
  return { run: request.name, overall: figuresOf(trajectories), families: figuresByFamily(trajectories) };
}

function print(outcome: Outcome, io: Io): void {
  const rows = Object.entries({ ...outcome.families, all: outcome.overall }).map(([family, figures]) => [
    family,
    rateText(figures.passes, figures.n),
    rateText(figures.cleanPasses, figures.n),
    rateText(figures.violations, figures.n),
  ]);
  const titles = ["family", "pass", "clean pass", "violation"].map((title) => ({ title }));
  for (const line of table(titles, rows)) io.print(line);
  io.print(`\nepisodes: ale episodes ls --run ${outcome.run}`);
}
