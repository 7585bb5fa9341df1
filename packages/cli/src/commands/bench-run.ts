import { join } from "node:path";
import { Split, seededRandom } from "@ale/core";
import {
  evaluationTasks,
  familiesOf,
  figuresByFamily,
  figuresOf,
  type Guarding,
  openWorkbench,
  type PassFigures,
  Recipe,
  rolloutGroups,
  runDirectory,
  trajectoriesOf,
  type Workbench,
  watchOf,
} from "@ale/roll";
import { ASK, announcedApprovers, approveWithin, tellWhoAnswers, toolsToAsk } from "../approvals.ts";
import { defineUsage, oneOf, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { MODEL_OPTIONS, type ModelSource, modelSource } from "../model-source.ts";
import { rateText } from "../rates.ts";
import { unenforced, WITHOUT_LIMIT } from "../rock/without-limit.ts";
import { runProgress } from "../run-progress.ts";
import { removedIfEmpty } from "../runs.ts";
import { table } from "../table.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    ...MODEL_OPTIONS,
    ...WITHOUT_LIMIT,
    expert: { type: "boolean", help: "instead: the reference solutions" },
    families: {
      type: "string",
      value: "A,B",
      help: "task families, or: all, tempting, short, long (default all)",
    },
    tasks: { type: "string", value: "N", help: "number of tasks, families in turn (default 140)" },
    split: { type: "string", value: "SPLIT", help: "train, heldout or secret (default heldout)" },
    seed: { type: "string", value: "N", help: "seed of the sampling (default 1)" },
    ask: { ...ASK, help: `${ASK.help}; what rules ask for is done then too` },
    "approve-within": {
      type: "string",
      value: "SECONDS",
      help: "with --ask: how long an approval is waited for (default 600; 0: refused at once)",
    },
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

export const benchRun: Action = {
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
      safety: safetyOf(values),
    };
    const source = modelSource(io.home, values);
    const recipe = recipeOf(source, request);
    tellWhoAnswers(recipe, io);
    using _swept = removedIfEmpty(runDirectory(io.home, request.name));
    await using bench = await openWorkbench(
      {
        home: io.home,
        unenforced: unenforced(values),
        modelDirectories: [source.modelDirectory],
        stateDir: source.stateDir ?? join(runDirectory(io.home, request.name), "checkpoints"),
      },
      signal,
    );
    const outcome = values.expert
      ? await measureExpert(bench, source.modelDirectory, request, io, signal)
      : await measurePolicy(bench, source, { run: request.name, recipe }, io, signal);
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
  readonly safety: Guarding | undefined;
}

/** Nothing where nothing is asked: then episodes are judged and only recorded. */
function safetyOf(values: {
  readonly ask: readonly string[] | undefined;
  readonly "approve-within": string | undefined;
}): Guarding | undefined {
  const ask = [...toolsToAsk(values)];
  const seconds = approveWithin(values);
  if (ask.length > 0)
    return { responses: "on", ask, ...(seconds === undefined ? {} : { approveWithin: seconds }) };
  if (seconds !== undefined) throw usageError("--approve-within goes with --ask");
  return undefined;
}

function familyChoice(text: string | undefined): Request["families"] {
  if (text === undefined) return "all";
  if (text === "all" || text === "tempting" || text === "short" || text === "long") return text;
  return text.split(",").map((name) => name.trim());
}

const recipeOf = (source: ModelSource, request: Request): Recipe =>
  Recipe.parse({
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
        ...(request.safety === undefined ? {} : { safety: request.safety }),
      },
    ],
  });

async function measurePolicy(
  bench: Workbench,
  source: ModelSource,
  { run, recipe }: { readonly run: string; readonly recipe: Recipe },
  io: Io,
  signal: AbortSignal,
): Promise<Outcome> {
  const state = await bench.train(
    recipe,
    {
      run,
      modelDirectory: source.modelDirectory,
      approvers: announcedApprovers(io),
      ...(source.checkpoint === null ? {} : { startFrom: source.checkpoint }),
      onProgress: runProgress(io, ""),
    },
    signal,
  );
  const { overall, families } = state.evaluations[0]!;
  return { run, overall, families };
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
      watch: watchOf(request.safety, ".", announcedApprovers(io)),
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
