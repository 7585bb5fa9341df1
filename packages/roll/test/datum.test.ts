import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { datumToWire } from "../src/engine/datum.ts";
import { layOut, scoringDatum, weightedDatum } from "../src/index.ts";

describe("data for the engine", () => {
  test("position n predicts token n + 1 and carries the weight of that token", () => {
    expect(weightedDatum([5, 6, 7, 8], [0, 0.5, 0, -1])).toEqual({
      tokens: [5, 6, 7],
      targets: [6, 7, 8],
      weights: [0.5, 0, -1],
    });
  });

  test("what follows the last weight is not sent, but at least one position is", () => {
    expect(weightedDatum([5, 6, 7, 8], [0, 1, 0, 0])).toEqual({ tokens: [5], targets: [6], weights: [1] });
    expect(weightedDatum([5, 6, 7], [0, 0, 0])).toEqual({ tokens: [5], targets: [6], weights: [0] });
  });

  test("a forward pass asks for every token after the first", () => {
    expect(scoringDatum([5, 6, 7])).toEqual({ tokens: [5, 6], targets: [6, 7] });
  });

  test.each([
    ["a weight on the first token", [1, 2], [1, 0]],
    ["weights of another length", [1, 2], [0]],
    ["a single token", [1], [0]],
    ["a NaN", [1, 2], [0, Number.NaN]],
  ])("%s is refused", (_what, tokens, weights) => {
    expect(() => weightedDatum(tokens, weights)).toThrow(TypeError);
  });

  test("chunk weights are laid over the sequence with 0 for context", () => {
    const chunks = [
      { contextTokens: [1, 2], tokens: [3] },
      { contextTokens: [4], tokens: [5, 6] },
    ];
    expect(layOut(chunks, [[0.9], [1, 1]])).toEqual({
      tokens: [1, 2, 3, 4, 5, 6],
      weights: [0, 0, 0.9, 0, 1, 1],
    });
    expect(() => layOut(chunks, [[0.9], [1]])).toThrow(/chunk 1 has 1 weights for 2 tokens/);
  });

  test("the text form of a weight is the same float32", () => {
    fc.assert(
      fc.property(fc.double({ min: -1e3, max: 1e3, noNaN: true }), (weight) => {
        const wire = datumToWire({ tokens: [1], targets: [2], weights: [weight] });
        const sent = JSON.parse(JSON.stringify(wire)).loss_fn_inputs.weights.data[0];
        const drift = Math.abs(Math.fround(sent) - Math.fround(weight));
        expect(drift).toBeLessThanOrEqual(Math.abs(Math.fround(weight)) * 2 ** -23);
      }),
    );
  });
});
