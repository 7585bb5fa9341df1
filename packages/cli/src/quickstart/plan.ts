import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { isRunLocked, loadRunState, type Recipe, recipeHash, runDirectory } from "@ale/roll";
import { type RecipeFile, readRecipe } from "../recipe-file.ts";

/** Which runs a quickstart consists of, and whether an interrupted one is gone on with. */
export interface QuickstartPlan {
  /** Name of the main run; the others carry it in front. */
  readonly name: string;
  readonly resumed: boolean;
  readonly smoke: boolean;
  /** Present with `--from-scratch` only. */
  readonly warm: PlannedRun | null;
  readonly main: PlannedRun;
  readonly plain: PlannedRun;
  readonly safe: PlannedRun;
}

export interface PlannedRun {
  readonly run: string;
  readonly recipe: Recipe;
  readonly modelDirectory: string;
}

export interface PlanOptions {
  readonly home: string;
  readonly seed: number | undefined;
  readonly fromScratch: boolean;
  /** A smoke test: every part runs, on so few episodes that its figures mean nothing. */
  readonly smoke: boolean;
}

export function planQuickstart(options: PlanOptions): QuickstartPlan {
  const read = (name: string): RecipeFile => {
    const file = readRecipe(name, { seed: options.seed });
    return options.smoke ? { ...file, recipe: shrunk(file.recipe) } : file;
  };
  const files = {
    warm: read("warm-start"),
    main: read("quickstart"),
    plain: read("safety-plain"),
    safe: read("safety-safe"),
  };
  const { name, resumed } = chooseName(options, files.main.recipe);
  const planned = (run: string, file: RecipeFile): PlannedRun => ({
    run,
    recipe: file.recipe,
    modelDirectory:
      options.fromScratch && file !== files.warm
        ? join(runDirectory(options.home, `${name}-warm`), "model")
        : file.modelDirectory,
  });
  return {
    name,
    resumed,
    smoke: options.smoke,
    warm: options.fromScratch ? planned(`${name}-warm`, files.warm) : null,
    main: planned(name, files.main),
    plain: planned(`${name}-plain`, files.plain),
    safe: planned(`${name}-safe`, files.safe),
  };
}

/** The newest quickstart of the same recipe that has no report yet, else a new number. Finished ones are never touched. */
function chooseName(options: PlanOptions, recipe: Recipe): { name: string; resumed: boolean } {
  const root = join(options.home, "runs");
  // Figures that mean nothing do not lie beside those that do under the same name.
  const base = options.smoke ? "smoke" : "quickstart";
  const numbers = (existsSync(root) ? readdirSync(root) : [])
    .map((entry) => new RegExp(`^${base}-(\\d+)(?:-warm)?$`).exec(entry)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number);
  const newest = Math.max(0, ...numbers);
  if (newest > 0) {
    const directory = join(root, `${base}-${newest}`);
    // Another quickstart is at work there; this one is its own.
    if (isRunLocked(directory)) return { name: `${base}-${newest + 1}`, resumed: false };
    const state = existsSync(directory) ? loadRunState(directory) : null;
    const scratch = existsSync(`${directory}-warm`);
    const same = state === null || state.recipeHash === recipeHash(recipe);
    if (same && scratch === options.fromScratch && !existsSync(join(directory, "report.html")))
      return { name: `${base}-${newest}`, resumed: true };
  }
  return { name: `${base}-${newest + 1}`, resumed: false };
}

/** The same recipe with a few rounds, steps and tasks. */
function shrunk(recipe: Recipe): Recipe {
  const stages = recipe.stages.map((stage): Recipe["stages"][number] => {
    switch (stage.type) {
      case "sft":
        return {
          ...stage,
          steps: Math.min(stage.steps, 5),
          demonstrations: { ...stage.demonstrations, episodes: 28 },
        };
      case "evaluate":
        return { ...stage, tasks: Math.min(stage.tasks, 28) };
      case "rl":
        return { ...stage, rounds: Math.min(stage.rounds, 2), instancesPerRound: 7 };
      default:
        return stage satisfies never;
    }
  });
  return { ...recipe, stages };
}
