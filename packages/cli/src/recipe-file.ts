import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { AleError } from "@ale/core";
import { parseRecipe, type Recipe, watchOf } from "@ale/roll";
import { parseDocument } from "yaml";
import { REPOSITORY } from "./versions.ts";

/** A recipe as it was read, and where the model that it starts from lies. */
export interface RecipeFile {
  readonly recipe: Recipe;
  readonly path: string;
  readonly modelDirectory: string;
}

/**
 * Reads a recipe; a bare name means one of those that ship with ALE. Throws `recipe-missing`, `recipe-syntax` (with line and
 * column) or `recipe-invalid`, which names every fault at once.
 */
export function readRecipe(
  nameOrPath: string,
  overrides: { readonly seed?: number | undefined } = {},
): RecipeFile {
  const path = /[./]/.test(nameOrPath)
    ? resolve(nameOrPath)
    : resolve(REPOSITORY, "recipes", `${nameOrPath}.yaml`);
  const document = parseDocument(readText(path), { prettyErrors: true });
  const syntax = document.errors[0];
  if (syntax !== undefined)
    throw new AleError("recipe-syntax", `${path}: ${syntax.message.trimEnd()}`, {
      next: "correct the YAML at that place",
    });
  const parsed = parseRecipe(document.toJS());
  if (!parsed.ok)
    throw new AleError(
      "recipe-invalid",
      `${path}:\n${parsed.error.map((fault) => `  ${fault.path}: ${fault.message}`).join("\n")}`,
      {
        next: "correct these lines; recipes/*.yaml are examples",
      },
    );
  const recipe = overrides.seed === undefined ? parsed.value : { ...parsed.value, seed: overrides.seed };
  const modelDirectory = resolve(dirname(path), recipe.model.directory);
  if (!existsSync(join(modelDirectory, "config.json")))
    throw new AleError("recipe-model", `${path}: there is no model in ${modelDirectory}`, {
      next: "correct model.directory, which is relative to the recipe's own folder",
    });
  // A rule pack that is wrong is told before an engine is started.
  for (const stage of recipe.stages) if (stage.type !== "sft") watchOf(stage.safety, dirname(path));
  return { recipe, path, modelDirectory };
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new AleError("recipe-missing", `there is no recipe at ${path}`, {
      next: "give the path of a YAML file, or the name of one in recipes/",
      cause,
    });
  }
}
