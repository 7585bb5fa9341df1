import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { NANO_WORDS } from "@ale/bench";
import { nanoTokenizer } from "@ale/gateway";
import { openWorkbench, type Recipe, recipeHash } from "@ale/roll";
import { describe, expect, test } from "vitest";
import { modelFiles, readProvenance } from "../src/provenance.ts";
import { readRecipe } from "../src/recipe-file.ts";
import { removeHome, whyNoLoop, workingHome } from "./support.ts";

const REPOSITORY = resolve(import.meta.dirname, "../../..");
const WARM = join(REPOSITORY, "models/nano-warm");

describe("the shipped warm start", () => {
  test("is what its provenance says, made by the recipe as it stands", () => {
    const provenance = readProvenance(WARM);
    expect(provenance).not.toBeNull();
    expect(provenance!.files).toEqual(modelFiles(WARM));
    expect(provenance!.recipeHash).toBe(recipeHash(readRecipe("warm-start").recipe));
  });

  test("has the tokenizer of the families' word list, as the untrained model has", () => {
    const { tokenizer } = nanoTokenizer(NANO_WORDS);
    for (const model of ["models/nano", "models/nano-warm"])
      expect(JSON.parse(readFileSync(join(REPOSITORY, model, "tokenizer.json"), "utf8"))).toEqual(tokenizer);
  });
});

const missing = whyNoLoop();

describe.skipIf(missing !== null)(
  `the recipe of the warm start${missing === null ? "" : ` (skipped: ${missing})`}`,
  () => {
    test("still trains: demonstrations in sandboxes, then a loss that falls", {
      timeout: 400_000,
    }, async () => {
      const home = workingHome();
      try {
        const { recipe, modelDirectory } = readRecipe("warm-start");
        const [sft] = recipe.stages;
        if (sft?.type !== "sft") throw new Error("the recipe does not begin with SFT");
        const short: Recipe = {
          ...recipe,
          stages: [
            { ...sft, steps: 25, demonstrations: { ...sft.demonstrations, episodes: 56 }, batchSize: 32 },
          ],
        };
        const losses: number[] = [];
        await using bench = await openWorkbench({
          home,
          modelDirectories: [modelDirectory],
          stateDir: join(home, "checkpoints"),
        });
        const state = await bench.train(
          short,
          {
            run: "short",
            modelDirectory,
            onProgress: (event) => {
              if (event.type === "sft") losses.push(event.progress.lossPerToken);
            },
          },
          new AbortController().signal,
        );
        expect(state.sft[0]).toMatchObject({ steps: 25, demonstrations: { episodes: 56, rejected: 0 } });
        expect(losses).toHaveLength(25);
        // Uniform over the vocabulary is ln 582 = 6.4; after 25 steps the common words are known.
        expect(losses[0]!).toBeGreaterThan(5);
        expect(losses.at(-1)!).toBeLessThan(0.6 * losses[0]!);
      } finally {
        removeHome(home);
      }
    });
  },
);
