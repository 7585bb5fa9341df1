import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  IpaSettings,
  ipaBatch,
  ipaWeights,
  isTrainable,
  type LearningTrajectory,
  ReinforceSettings,
  reinforceBatch,
  scaleWeights,
} from "../src/index.ts";
import { anyBatch, anyReward, chunkFromLogRatios, chunkOf, trajectoryOf } from "./arbitraries.ts";

const defaults = IpaSettings.parse({});
const open = IpaSettings.parse({ maskHigh: 1e12 });

const trajectory = (rFinal: number, ...logRatios: number[][]): LearningTrajectory => ({
  chunks: logRatios.map(chunkFromLogRatios),
  rFinal,
  prefixLength: 0,
});

describe("IPA weights (Eq. 9)", () => {
  test("a success weighs each chunk by its discounted return, whatever the ratio", () => {
    const weights = ipaWeights(trajectory(1, [2, 2], [-3], [0.1]), defaults).map(({ weight }) => weight);
    expect(weights).toEqual([0.95 ** 2, 0.95, 1]);
  });

  test("a failure is weighed by the clipped chunk ratio times its negative return", () => {
    const settings = IpaSettings.parse({ failReward: -1 });
    const [first, second] = ipaWeights(trajectory(0, [-0.5, -0.3, -0.1], [-0.1, 0.3, -0.2, 2]), settings);
    expect(first!.weight).toBeCloseTo(-0.740818 * 0.95, 6);
    expect(first!.clipped).toBe(false);
    expect(second!.rho).toBeCloseTo(1.648721, 6);
    expect(second!.weight).toBe(-1);
    expect(second!.clipped).toBe(true);
  });

  test("with failReward 0, the default, failures have exactly no gradient", () => {
    fc.assert(
      fc.property(fc.array(trajectoryOf(fc.constant(0)), { minLength: 1, maxLength: 5 }), (batch) => {
        const { weights, diagnostics } = ipaBatch(batch, defaults);
        expect(weights.flat(2).every((weight) => Object.is(weight, 0))).toBe(true);
        expect(diagnostics.active).toBe(0);
      }),
    );
  });

  test("all tokens of a chunk share one weight, and there is one weight a token", () => {
    fc.assert(
      fc.property(anyBatch, (batch) => {
        const { weights } = ipaBatch(batch, IpaSettings.parse({ failReward: -1 }));
        batch.forEach(({ chunks }, i) => {
          chunks.forEach(({ tokens }, k) => {
            expect(weights[i]![k]).toHaveLength(tokens);
            expect(new Set(weights[i]![k]).size).toBe(1);
          });
        });
      }),
    );
  });

  test("the gradient of successes does not depend on the current policy", () => {
    fc.assert(
      fc.property(
        trajectoryOf(fc.constant(1)),
        fc.double({ min: -5, max: 5, noNaN: true }),
        (success, shift) => {
          const moved = {
            ...success,
            chunks: success.chunks.map((chunk) => ({
              ...chunk,
              logpTheta: chunk.logpTheta!.map((logp) => logp + shift),
            })),
          };
          expect(ipaBatch([moved], defaults).weights).toEqual(ipaBatch([success], defaults).weights);
        },
      ),
    );
  });

  test("γ = 1 gives every trained chunk of a success the same weight", () => {
    fc.assert(
      fc.property(trajectoryOf(fc.constant(1)), (success) => {
        const weights = ipaWeights(success, IpaSettings.parse({ gamma: 1, maskHigh: 1e12 }));
        weights.forEach(({ weight }, k) => {
          expect(weight).toBe(isTrainable(success, k) ? 1 : 0);
        });
      }),
    );
  });

  test("a chunk whose sampler disagrees by more than H is dropped whole, its neighbours stay", () => {
    const good = chunkFromLogRatios([0, 0]);
    const drifted = { ...good, logpSampler: good.logpOld.map((logp) => logp - Math.log(2.01)) };
    const mixed: LearningTrajectory = { chunks: [good, drifted, good], rFinal: 1, prefixLength: 0 };
    const { weights, diagnostics } = ipaBatch([mixed], IpaSettings.parse({ gamma: 1 }));
    expect(weights).toEqual([
      [
        [1, 1],
        [0, 0],
        [1, 1],
      ],
    ]);
    expect(diagnostics.maskFraction).toBeCloseTo(1 / 3, 12);
  });

  test("one outlier token does not drop a chunk whose geometric mean is below H", () => {
    const good = chunkFromLogRatios([0, 0, 0, 0]);
    const outlier = { ...good, logpSampler: [-1 - Math.log(4), -1, -1, -1] };
    const one: LearningTrajectory = { chunks: [outlier], rFinal: 1, prefixLength: 0 };
    expect(ipaBatch([one], defaults).diagnostics.maskFraction).toBe(0);
    // The token mask of Eq. 6 drops that token: the chunk mask is the less restrictive one.
    expect(reinforceBatch([one], ReinforceSettings.parse({})).weights).toEqual([[[0, 1, 1, 1]]]);
  });

  test("replayed prefixes and expert chunks are never trained but count for the discount", () => {
    const own = chunkFromLogRatios([0]);
    const expert = { tokens: 2, logpOld: [], logpSampler: [], source: "expert" as const };
    const anchored: LearningTrajectory = { chunks: [expert, own, own], rFinal: 1, prefixLength: 2 };
    const { weights, diagnostics } = ipaBatch([anchored], defaults);
    expect(weights).toEqual([[[0, 0], [0], [1]]]);
    expect(diagnostics.trainableChunks).toBe(1);
  });

  test("given chunk returns replace Eq. 7, so that a penalty lands on its chunk", () => {
    const punished: LearningTrajectory = { ...trajectory(0, [0], [0], [0]), chunkReturns: [0, -1, -0.5] };
    expect(ipaWeights(punished, defaults).map(({ weight }) => weight)).toEqual([0, -1, -0.5]);
  });

  test("an explicitly negative reward is not overwritten by failReward", () => {
    expect(ipaWeights(trajectory(-0.5, [0]), defaults)[0]!.weight).toBe(-0.5);
  });

  test("the normaliser divides by trajectories, trainable chunks or trainable tokens", () => {
    const batch = [trajectory(1, [0, 0], [0]), trajectory(0, [0, 0, 0])];
    const total = (normaliser: "trajectory" | "chunk" | "token") =>
      ipaBatch(batch, IpaSettings.parse({ gamma: 1, normaliser }))
        .weights.flat(2)
        .reduce((sum, weight) => sum + weight, 0);
    expect(total("trajectory")).toBeCloseTo(3 / 2, 12);
    expect(total("chunk")).toBeCloseTo(3 / 3, 12);
    expect(total("token")).toBeCloseTo(3 / 6, 12);
  });

  test("with one-token chunks and γ = 1 the successes are those of Eq. 6", () => {
    const oneTokenChunk = chunkOf().filter((chunk) => chunk.tokens === 1);
    const success = fc
      .array(oneTokenChunk, { minLength: 1, maxLength: 6 })
      .map((chunks) => ({ chunks, rFinal: 1, prefixLength: 0 }));
    fc.assert(
      fc.property(success, (item) => {
        const ipa = ipaBatch([item], IpaSettings.parse({ gamma: 1 }));
        expect(ipa.weights).toEqual(reinforceBatch([item], ReinforceSettings.parse({})).weights);
      }),
    );
  });

  test("failures are never pushed harder than at the sampling policy", () => {
    fc.assert(
      fc.property(trajectoryOf(anyReward), (item) => {
        const settings = { ...open, failReward: -1 };
        const atOld = {
          ...item,
          chunks: item.chunks.map(({ logpTheta: _theta, ...chunk }) => chunk),
        };
        const reference = ipaWeights(atOld, settings);
        ipaWeights(item, settings).forEach(({ weight }, k) => {
          expect(Math.abs(weight)).toBeLessThanOrEqual(Math.abs(reference[k]!.weight));
        });
      }),
    );
  });

  test("a batch of nothing, or of empty trajectories, has no weights and no NaN", () => {
    expect(ipaBatch([], defaults).normaliser).toBe(1);
    const empty = ipaBatch([{ chunks: [], rFinal: 1, prefixLength: 0 }], defaults);
    expect(empty.diagnostics).toMatchObject({ active: 0, maskFraction: 0, meanRho: 1, meanMismatch: 1 });
  });

  test.each([
    [
      "a missing log-probability",
      { ...trajectory(1, [0, 0]), chunks: [{ ...chunkFromLogRatios([0, 0]), logpOld: [-1] }] },
    ],
    ["a NaN", { ...trajectory(1, [0]), chunks: [{ ...chunkFromLogRatios([0]), logpSampler: [Number.NaN] }] }],
    ["an infinite reward", trajectory(Number.POSITIVE_INFINITY, [0])],
    ["returns for other chunks", { ...trajectory(1, [0]), chunkReturns: [1, 1] }],
  ])("%s is refused with the place it is in", (_what, broken) => {
    expect(() => ipaBatch([trajectory(1, [0]), broken], defaults)).toThrow(/^trajectory 1: /);
  });

  test("scaleWeights multiplies every weight and nothing else", () => {
    const batch = ipaBatch([trajectory(1, [0], [0])], defaults);
    expect(scaleWeights(batch, 2)).toEqual({ ...batch, weights: [[[1.9], [2]]] });
  });
});
