/**
 * Takes the model of a finished warm-start run into models/nano-warm, with its provenance beside it.
 * Run: ./ale train warm-start --run NAME, then: node scripts/ship-warm-start.ts NAME
 */
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { modelFiles, type Provenance } from "../packages/cli/src/provenance.ts";
import { softwareFacts } from "../packages/cli/src/quickstart/facts.ts";
import { readRecipe } from "../packages/cli/src/recipe-file.ts";
import { defaultHome, openOciDriver } from "../packages/rock/src/index.ts";
import { loadRunState, recipeHash, runDirectory } from "../packages/roll/src/index.ts";

const run = process.argv[2];
if (run === undefined) throw new Error("usage: node scripts/ship-warm-start.ts RUN");
const directory = runDirectory(defaultHome(), run);
const state = loadRunState(directory);
const { recipe } = readRecipe("warm-start");
if (state === null || state.stage !== recipe.stages.length) throw new Error(`${run} is not a finished run`);
if (state.recipeHash !== recipeHash(recipe))
  throw new Error(`${run} was made with another version of recipes/warm-start.yaml`);
const [sft] = state.sft;
const [evaluation] = state.evaluations;
if (sft === undefined || evaluation === undefined) throw new Error(`${run} has no result`);

const target = resolve(import.meta.dirname, "../models/nano-warm");
rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
for (const name of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
  cpSync(join(directory, "model", name), join(target, name));

await using driver = openOciDriver();
const provenance: Provenance = {
  schema: "ale/provenance@1",
  recipe: "recipes/warm-start.yaml",
  recipeHash: state.recipeHash,
  seed: recipe.seed,
  steps: sft.steps,
  lossPerToken: sft.lossPerToken,
  demonstrations: { episodes: sft.demonstrations.episodes, passRate: sft.demonstrations.passRate },
  logDigest: sft.demonstrations.digest,
  evaluation: {
    tasks: evaluation.overall.n,
    passes: evaluation.overall.passes,
    violations: evaluation.overall.violations,
  },
  software: await softwareFacts(driver, defaultHome()),
  files: modelFiles(target),
};
writeFileSync(join(target, "provenance.json"), `${JSON.stringify(provenance, null, 2)}\n`);
console.log(`${target}: ${evaluation.overall.passes}/${evaluation.overall.n} passed`);
