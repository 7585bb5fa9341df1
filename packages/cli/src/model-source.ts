import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { AleError } from "@ale/core";
import { loadRunState, runDirectory } from "@ale/roll";
import { usageError } from "./args.ts";
import { REPOSITORY } from "./versions.ts";

/** Which weights a command acts with: a model directory as it is, or the newest checkpoint of a run. */
export interface ModelSource {
  /** What episodes record as the model that acted. */
  readonly name: string;
  readonly modelDirectory: string;
  /** Engine path of the checkpoint; null for the model's own weights. */
  readonly checkpoint: string | null;
  /** Where the engine finds that checkpoint; null when there is none. */
  readonly stateDir: string | null;
  readonly version: number;
}

/** Options that choose the weights; spread them into a command's usage. */
export const MODEL_OPTIONS = {
  model: { type: "string", value: "DIR", help: "a model directory (default: models/nano-warm)" },
  run: { type: "string", value: "NAME", help: "instead: the newest checkpoint of this run" },
} as const;

export function modelSource(
  home: string,
  options: { readonly model: string | undefined; readonly run: string | undefined },
): ModelSource {
  if (options.model !== undefined && options.run !== undefined)
    throw usageError("--model and --run exclude each other", "choose one");
  if (options.run === undefined) {
    const modelDirectory =
      options.model === undefined ? join(REPOSITORY, "models/nano-warm") : resolve(options.model);
    if (existsSync(join(modelDirectory, "config.json")))
      return { name: basename(modelDirectory), modelDirectory, checkpoint: null, stateDir: null, version: 0 };
    throw new AleError("model-missing", `there is no model in ${modelDirectory}`, {
      next: "--model wants a directory with config.json, weights and tokenizer.json",
    });
  }
  const directory = runDirectory(home, options.run);
  const state = loadRunState(directory);
  if (state === null)
    throw new AleError("run-unknown", `there is no run ${options.run} in ${join(home, "runs")}`, {
      next: "ale train RECIPE makes one",
    });
  // A finished run has left its weights as a model; the checkpoints of an unfinished one lie with the engine that trains it.
  const exported = join(directory, "model");
  if (existsSync(join(exported, "config.json")))
    return {
      name: options.run,
      modelDirectory: exported,
      checkpoint: null,
      stateDir: null,
      version: state.version,
    };
  return {
    name: options.run,
    modelDirectory: state.modelDirectory,
    checkpoint: state.checkpoint,
    stateDir: join(directory, "checkpoints"),
    version: state.version,
  };
}
