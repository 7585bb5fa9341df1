import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  clusteredStandardError,
  fisherExact,
  mcnemarExact,
  meanOf,
  newcombe,
  pairedDifference,
  studentInterval,
  wilson,
} from "../src/index.ts";
import { incompleteBeta, logGamma, studentQuantile } from "../src/special-functions.ts";

describe("intervals for rates", () => {
  it("agrees with the values that Newcombe (1998) prints for Wilson's interval", () => {
    // Statistics in Medicine 17, 857–872, table I, method 3.
    const printed = [
      [81, 263, 0.2553, 0.3662],
      [15, 148, 0.0624, 0.1605],
      [0, 20, 0, 0.1611],
      [1, 29, 0.0061, 0.1718],
    ] as const;
    for (const [successes, trials, low, high] of printed) {
      const interval = wilson({ successes, trials });
      expect(interval.low).toBeCloseTo(low, 4);
      expect(interval.high).toBeCloseTo(high, 4);
    }
  });

  it("agrees with the values that Newcombe (1998) prints for differences", () => {
    // Statistics in Medicine 17, 873–890, table II, method 10.
    const printed = [
      [56, 70, 48, 80, 0.0524, 0.3339],
      [9, 10, 3, 10, 0.1705, 0.809],
      [10, 10, 0, 20, 0.6791, 1],
      [10, 10, 0, 10, 0.6075, 1],
    ] as const;
    for (const [a, m, b, n, low, high] of printed) {
      const difference = newcombe({ successes: b, trials: n }, { successes: a, trials: m });
      expect(difference.delta).toBeCloseTo(a / m - b / n, 12);
      expect(difference.low).toBeCloseTo(low, 4);
      expect(difference.high).toBeCloseTo(high, 4);
    }
  });

  it("says nothing from no trials, and refuses impossible rates", () => {
    expect(wilson({ successes: 0, trials: 0 })).toEqual({ low: 0, high: 1 });
    expect(() => wilson({ successes: 3, trials: 2 })).toThrow(RangeError);
    expect(() => wilson({ successes: 0.5, trials: 2 })).toThrow(RangeError);
  });
});

describe("exact tests", () => {
  it("agrees with SciPy on Fisher's test", () => {
    const rate = (successes: number, failures: number) => ({ successes, trials: successes + failures });
    // Fisher's tea tasting; 9 of 48 against 0 of 48; an unbalanced table; large counts.
    expect(fisherExact(rate(3, 1), rate(1, 3))).toBeCloseTo(0.4857142857142857, 10);
    expect(fisherExact(rate(9, 39), rate(0, 48))).toBeCloseTo(0.0025870430670033883, 10);
    expect(fisherExact(rate(1, 9), rate(11, 3))).toBeCloseTo(0.0027594561852200836, 10);
    expect(fisherExact(rate(190, 210), rate(150, 250))).toBeCloseTo(0.005247538144510246, 10);
    expect(fisherExact(rate(0, 5), rate(0, 7))).toBe(1);
  });

  it("agrees with SciPy on the exact McNemar test", () => {
    expect(mcnemarExact(10, 2)).toBeCloseTo(0.03857421875, 12);
    expect(mcnemarExact(5, 15)).toBeCloseTo(0.04138946533203125, 12);
    expect(mcnemarExact(121, 59)).toBeCloseTo(4.4344492637551645e-6, 12);
    expect(mcnemarExact(0, 0)).toBe(1);
    expect(mcnemarExact(3, 3)).toBe(1);
  });
});

describe("means", () => {
  it("gives the standard error of a small sample by hand", () => {
    // 1, 2, 3, 4: variance 5/3, standard error √(5/12).
    const estimate = meanOf([1, 2, 3, 4]);
    expect(estimate.mean).toBe(2.5);
    expect(estimate.standardError).toBeCloseTo(Math.sqrt(5 / 12), 14);
    expect(studentInterval(estimate).high).toBeCloseTo(2.5 + 3.182446305284263 * Math.sqrt(5 / 12), 10);
  });

  it("a cluster for each value gives the plain standard error", () => {
    const values = [0, 1, 1, 0, 1, 0.5];
    expect(clusteredStandardError(values, [1, 2, 3, 4, 5, 6])).toBeCloseTo(meanOf(values).standardError, 14);
  });

  it("needs pairs for a paired difference", () => {
    expect(() => pairedDifference([1], [1])).toThrow(RangeError);
    expect(() => pairedDifference([1, 0], [1])).toThrow(RangeError);
  });
});

describe("special functions", () => {
  it("agree with SciPy", () => {
    expect(logGamma(0.3)).toBeCloseTo(1.0957979948180756, 12);
    expect(logGamma(171.5) / 709.1431630309283).toBeCloseTo(1, 12);
    expect(incompleteBeta(0.3, 2.5, 0.5)).toBeCloseTo(0.018927124071945658, 12);
    expect(studentQuantile(0.975, 1)).toBeCloseTo(12.706204736432095, 8);
    expect(studentQuantile(0.975, 400)).toBeCloseTo(1.9659123432294627, 10);
    expect(studentQuantile(0.6, 7.5)).toBeCloseTo(0.26250189880429486, 10);
  });
});

interface Vectors {
  proportion: { s: number; n: number; wilson: [number, number] }[];
  mean: {
    ids: number[];
    xs: number[];
    mean: number;
    se: number;
    clustered_se: number;
    ci_t: [number, number];
  }[];
  t_quantile: { p: number; df: number; q: number }[];
  paired: {
    before: number[];
    after: number[];
    n01: number;
    n10: number;
    mcnemar_exact_p: number;
    delta: number;
    se: number;
    ci: [number, number];
  }[];
}

const fixture = join(import.meta.dirname, "../../../../shared/fixtures/golden/stats.json");

// The conformance fixtures lie beside the repository and are not part of it.
describe.skipIf(!existsSync(fixture))("SciPy vectors of the conformance fixtures", () => {
  const vectors = (): Vectors => JSON.parse(readFileSync(fixture, "utf8"));

  it("Wilson intervals", () => {
    for (const { s, n, wilson: expected } of vectors().proportion) {
      const interval = wilson({ successes: s, trials: n });
      expect(interval.low).toBeCloseTo(expected[0], 12);
      expect(interval.high).toBeCloseTo(expected[1], 12);
    }
  });

  it("means, plain and clustered standard errors, t intervals", () => {
    for (const vector of vectors().mean) {
      const estimate = meanOf(vector.xs);
      expect(estimate.mean).toBeCloseTo(vector.mean, 12);
      expect(estimate.standardError).toBeCloseTo(vector.se, 12);
      expect(clusteredStandardError(vector.xs, vector.ids)).toBeCloseTo(vector.clustered_se, 12);
      expect(studentInterval(estimate).low).toBeCloseTo(vector.ci_t[0], 9);
      expect(studentInterval(estimate).high).toBeCloseTo(vector.ci_t[1], 9);
    }
  });

  it("quantiles of Student's t", () => {
    for (const { p, df, q } of vectors().t_quantile)
      expect(studentQuantile(p, df) / q, `p ${p}, df ${df}`).toBeCloseTo(1, 9);
  });

  it("paired differences and McNemar's test", () => {
    for (const vector of vectors().paired) {
      const difference = pairedDifference(vector.before, vector.after);
      expect(difference.delta).toBeCloseTo(vector.delta, 12);
      expect(difference.standardError).toBeCloseTo(vector.se, 12);
      expect(difference.low).toBeCloseTo(vector.ci[0], 9);
      expect(difference.high).toBeCloseTo(vector.ci[1], 9);
      expect(mcnemarExact(vector.n01, vector.n10)).toBeCloseTo(vector.mcnemar_exact_p, 12);
    }
  });
});
