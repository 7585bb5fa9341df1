import { describe, expect, test } from "vitest";
import { parseRecipe, recipeHash } from "../src/index.ts";

const minimal = {
  schema: "ale/recipe@1",
  name: "toy",
  seed: 1,
  model: { directory: "models/nano" },
  stages: [{ type: "evaluate", label: "before", tasks: 10 }],
};

const faults = (document: unknown) => {
  const parsed = parseRecipe(document);
  return parsed.ok ? [] : parsed.error.map((fault) => `${fault.path}: ${fault.message}`);
};

describe("parseRecipe", () => {
  test("fills in what was left out", () => {
    const parsed = parseRecipe(minimal);
    expect(parsed.ok && parsed.value.stages[0]).toMatchObject({ split: "heldout", families: "all" });
  });

  test.each<[string, unknown, string]>([
    ["at the top", { ...minimal, concurency: 4 }, 'concurency: unknown key; did you mean "concurrency"?'],
    [
      "in a stage",
      {
        ...minimal,
        stages: [
          {
            type: "rl",
            rounds: 1,
            algoritm: {},
            algorithm: { name: "ipa" },
            safety: {},
            adam: { learningRate: 1 },
          },
        ],
      },
      "stages.0.algoritm: unknown key",
    ],
    [
      "in a family that there is not",
      { ...minimal, stages: [{ type: "evaluate", label: "before", tasks: 10, families: ["vualt"] }] },
      'stages.0.families: there is no task family "vualt"; known families: ',
    ],
    [
      "in the optimiser",
      {
        ...minimal,
        stages: [
          {
            type: "rl",
            rounds: 1,
            algorithm: { name: "ipa" },
            safety: {},
            adam: { learningRate: 1, beta: 0.9 },
          },
        ],
      },
      "stages.0.adam.beta: unknown key; did you mean",
    ],
    [
      "in the algorithm",
      {
        ...minimal,
        stages: [
          {
            type: "rl",
            rounds: 1,
            algorithm: { name: "ipa", gama: 1 },
            safety: {},
            adam: { learningRate: 1 },
          },
        ],
      },
      'stages.0.algorithm.gama: unknown key; did you mean "gamma"?',
    ],
  ])("refuses an unknown key %s and suggests the nearest", (_, document, expected) => {
    expect(faults(document).join("\n")).toContain(expected);
  });

  test("says that a key belongs to another algorithm", () => {
    const rl = {
      type: "rl",
      rounds: 1,
      algorithm: { name: "grpo", gamma: 0.95 },
      safety: {},
      adam: { learningRate: 1 },
    };
    expect(faults({ ...minimal, stages: [rl] }).join()).toContain(
      "stages.0.algorithm.gamma: belongs to another kind",
    );
  });

  test("names every fault at once, with its place", () => {
    const found = faults({
      ...minimal,
      seed: -1,
      stages: [{ type: "evaluate", label: "Bad Label", tasks: 0 }],
    });
    expect(found.map((fault) => fault.split(":")[0])).toEqual(["seed", "stages.0.label", "stages.0.tasks"]);
  });

  test.each([null, 3, [], "text"])("refuses %j, which is no recipe at all", (document) => {
    expect(faults(document).length).toBeGreaterThan(0);
  });
});

describe("recipeHash", () => {
  test("depends on what a recipe says and not on how it is written", () => {
    const one = parseRecipe(minimal);
    const two = parseRecipe({ ...minimal, description: "", concurrency: 96 });
    const three = parseRecipe({ ...minimal, seed: 2 });
    if (!one.ok || !two.ok || !three.ok) throw new Error("a recipe was refused");
    expect(recipeHash(one.value)).toBe(recipeHash(two.value));
    expect(recipeHash(one.value)).not.toBe(recipeHash(three.value));
  });
});
