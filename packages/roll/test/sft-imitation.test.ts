import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ImitationSettings, imitationBatch, SftSettings, sftBatch, sftWeights } from "../src/index.ts";

const chunk = (tokens: number, trained: boolean) => ({ tokens, error: !trained, relevant: true });

describe("SFT weights (Eq. 1–2)", () => {
  test("log-probability sums −2, −1, −3 over 10, 5, 20 tokens with masks 1, 0, 1 lose 5/30", () => {
    const { weights } = sftBatch(
      [[chunk(10, true), chunk(5, false), chunk(20, true)]],
      SftSettings.parse({}),
    );
    const meanLogp = [-2 / 10, -1 / 5, -3 / 20];
    const loss = -weights[0]!
      .flatMap((tokens, k) => tokens.map((weight) => weight * meanLogp[k]!))
      .reduce((a, b) => a + b, 0);
    expect(loss).toBeCloseTo(5 / 30, 12);
  });

  test("a chunk is learnt only if it did not fail and is relevant", () => {
    const chunks = [
      { tokens: 1, error: false, relevant: true },
      { tokens: 1, error: true, relevant: true },
      { tokens: 1, error: false, relevant: false },
      { tokens: 1, error: true, relevant: false },
    ];
    expect(sftBatch([chunks], SftSettings.parse({})).weights).toEqual([[[1], [0], [0], [0]]]);
  });

  test("weights sum to 1 however the batch is made, and to 0 when everything is masked", () => {
    const anyChunk = fc.record({
      tokens: fc.integer({ min: 1, max: 9 }),
      error: fc.boolean(),
      relevant: fc.boolean(),
    });
    const anyBatch = fc.array(fc.array(anyChunk, { maxLength: 5 }), { maxLength: 5 });
    fc.assert(
      fc.property(anyBatch, fc.constantFrom("batch" as const, "trajectory" as const), (batch, normaliser) => {
        const { weights, trainedTokens } = sftBatch(batch, { normaliser });
        const sum = weights.flat(2).reduce((total, weight) => total + weight, 0);
        expect(sum).toBeCloseTo(trainedTokens > 0 ? 1 : 0, 10);
      }),
    );
  });

  test("per-trajectory normalisation gives short and long examples the same say", () => {
    const { weights } = sftBatch([[chunk(1, true)], [chunk(4, true)]], { normaliser: "trajectory" });
    expect(weights).toEqual([[[0.5]], [[0.125, 0.125, 0.125, 0.125]]]);
  });

  test("sftWeights spreads a token mask over the batch's trained tokens", () => {
    expect(sftWeights([0, 1, 1, 0], 4)).toEqual([0, 0.25, 0.25, 0]);
    expect(sftWeights([false, false], 0)).toEqual([0, 0]);
  });
});

describe("imitation term (Eq. 10)", () => {
  const expert = {
    chunks: [
      { tokens: 2, logpTheta: [-1, -3] },
      { tokens: 1, logpTheta: [-0.5] },
      { tokens: 1, logpTheta: [-2] },
    ],
    rFinal: 1,
    fork: 1,
    hasPositive: false,
  };
  const settings = (input: Partial<ImitationSettings>) =>
    ImitationSettings.parse({ ilMode: "always", ...input });

  test("expert chunks up to and including the crucial one are imitated with their discounted return", () => {
    expect(imitationBatch([expert], settings({ lambdaIl: 2 }), 0.5).weights).toEqual([
      [[0.5, 0.5], [1], [0]],
    ]);
  });

  test("whenNoPositive imitates only at forks where nothing succeeded, and divides by those", () => {
    const { weights, used, normaliser } = imitationBatch(
      [expert, { ...expert, hasPositive: true }],
      settings({ ilMode: "whenNoPositive" }),
      1,
    );
    expect(used).toEqual([true, false]);
    expect(normaliser).toBe(1);
    expect(weights).toEqual([
      [[1, 1], [1], [0]],
      [[0, 0], [0], [0]],
    ]);
  });

  test("off is off", () => {
    expect(imitationBatch([expert], ImitationSettings.parse({}), 1).weights.flat(2)).toEqual([0, 0, 0, 0]);
  });

  test("the factor π_θ(c*) is left out, geometric or literal", () => {
    const first = (ilWeight: ImitationSettings["ilWeight"]) =>
      imitationBatch([expert], settings({ ilWeight }), 1).weights[0]![0]![0]!;
    expect(first("one")).toBe(1);
    expect(first("geometric")).toBeCloseTo(Math.exp(-2), 12);
    expect(first("literal")).toBeCloseTo(Math.exp(-4), 12);
  });

  test("a factor that needs log-probabilities says so when they are missing", () => {
    const bare = { ...expert, chunks: [{ tokens: 2 }] };
    expect(() => imitationBatch([bare], settings({ ilWeight: "geometric" }), 1)).toThrow(
      /needs one logpTheta/,
    );
  });
});
