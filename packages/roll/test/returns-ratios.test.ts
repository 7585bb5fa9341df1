import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chunkReturns, discountedReturns, geometricRatio, keeps, ratio } from "../src/index.ts";

describe("chunk returns (Eq. 7)", () => {
  test("K=5, γ=0.95, R=1 gives the vector of the reference", () => {
    const expected = [0.81450625, 0.857375, 0.9025, 0.95, 1];
    chunkReturns(5, 1, 0.95).forEach((value, k) => {
      expect(value).toBeCloseTo(expected[k]!, 12);
    });
  });

  test("γ = 1 makes every chunk's return the terminal reward", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.double({ min: -2, max: 2, noNaN: true }),
        (chunks, reward) => {
          expect(chunkReturns(chunks, reward, 1)).toEqual(new Array(chunks).fill(reward));
        },
      ),
    );
  });

  test("the backward recursion equals Eq. 7 when only the last chunk is rewarded", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        fc.double({ min: -2, max: 2, noNaN: true }),
        (chunks, gamma, reward) => {
          const rewards = new Array<number>(chunks).fill(0);
          rewards[chunks - 1] = reward;
          const closed = chunkReturns(chunks, reward, gamma);
          discountedReturns(rewards, gamma).forEach((value, k) => {
            expect(value).toBeCloseTo(closed[k]!, 10);
          });
        },
      ),
    );
  });

  test("intermediate rewards flow back discounted", () => {
    expect(discountedReturns([1, 0, -2], 0.5)).toEqual([0.5, -1, -2]);
  });
});

describe("importance ratios (Eq. 8)", () => {
  test("the ratio of a chunk is the geometric mean, not the product", () => {
    const logRatios = [-0.1, 0.3, -0.2, 2];
    expect(geometricRatio(logRatios, [0, 0, 0, 0])).toBeCloseTo(1.648721, 6);
    expect(geometricRatio([-0.5, -0.3, -0.1], [0, 0, 0])).toBeCloseTo(0.740818, 6);
  });

  test("duplicating the tokens of a chunk does not change its ratio", () => {
    const pairs = fc.array(
      fc.tuple(fc.double({ min: -10, max: 0, noNaN: true }), fc.double({ min: -10, max: 0, noNaN: true })),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(pairs, fc.integer({ min: 2, max: 4 }), (tokens, times) => {
        const repeated = Array.from({ length: times }, () => tokens).flat();
        const once = geometricRatio(
          tokens.map(([a]) => a),
          tokens.map(([, b]) => b),
        );
        const many = geometricRatio(
          repeated.map(([a]) => a),
          repeated.map(([, b]) => b),
        );
        expect(many / once).toBeCloseTo(1, 10);
      }),
    );
  });

  test("extreme log-ratios stay finite: they are cut to ±20", () => {
    expect(ratio(0, -1000)).toBe(Math.exp(20));
    expect(ratio(-1000, 0)).toBe(Math.exp(-20));
    expect(geometricRatio([0, 0], [-1000, -1000])).toBe(Math.exp(20));
  });

  test("lengths that differ, and empty chunks, are refused", () => {
    expect(() => geometricRatio([0], [0, 0])).toThrow(TypeError);
    expect(() => geometricRatio([], [])).toThrow(TypeError);
  });

  test("the mask has one side by default and two when a lower bound is given", () => {
    expect(keeps(2, { maskLow: 0, maskHigh: 2 })).toBe(true);
    expect(keeps(2.0001, { maskLow: 0, maskHigh: 2 })).toBe(false);
    expect(keeps(1e-6, { maskLow: 0, maskHigh: 2 })).toBe(true);
    expect(keeps(0.7, { maskLow: 0.8, maskHigh: 2 })).toBe(false);
  });
});
