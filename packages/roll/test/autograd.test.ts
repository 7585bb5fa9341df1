import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Algorithm, locateEngine } from "../src/index.ts";
import { type AutogradReference, openAutogradReference } from "./autograd.ts";

const engine = locateEngine();
const reason = engine.ok ? "" : ` (skipped: ${engine.error.message}; ${engine.error.next})`;

describe.skipIf(!engine.ok)(`weights against torch autograd${reason}`, () => {
  let reference: AutogradReference;
  beforeAll(() => {
    if (engine.ok) reference = openAutogradReference(engine.value.python);
  });
  afterAll(() => reference?.close());

  const algorithms = {
    "IPA, positives only": { name: "ipa" },
    "IPA, failures pushed away": { name: "ipa", failReward: -1, normaliser: "chunk" },
    "IPA with a lower mask bound": { name: "ipa", failReward: -0.5, maskLow: 0.8, maskHigh: 1.2, gamma: 0.5 },
    "Eq. 6": { name: "reinforce", failReward: -1, normaliser: "token" },
    GRPO: { name: "grpo" },
    "GRPO without the deviation": { name: "grpo", divideByStd: false, clipLow: 0.1, clipHigh: 0.4 },
    RAFT: { name: "raft", normaliser: "token" },
  };

  test.each(Object.entries(algorithms))("%s: relative error at most 1e-6 in fp32", async (_name, input) => {
    const algorithm = Algorithm.parse(input);
    let masked = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const noise = { noiseOld: 0.1, noiseSampler: 0.2 };
      const single = await reference.compare({ algorithm, seed, dtype: "float32", ...noise });
      expect(single.referenceNorm).toBeGreaterThan(1e-3);
      expect(single.relativeError).toBeLessThanOrEqual(1e-6);
      const double = await reference.compare({ algorithm, seed, dtype: "float64", ...noise });
      expect(double.relativeError).toBeLessThanOrEqual(1e-13);
      masked += double.maskFraction;
    }
    // Otherwise the masks would have been compared on nothing.
    expect(masked).toBeGreaterThan(0);
  });

  test("the clips of failures and of GRPO bind somewhere in these batches", async () => {
    for (const input of [{ name: "ipa", failReward: -1 }, { name: "grpo" }]) {
      const result = await reference.compare({
        algorithm: Algorithm.parse(input),
        seed: 1,
        dtype: "float64",
        noiseOld: 0.1,
        noiseSampler: 0.1,
      });
      expect(result.clippedFraction).toBeGreaterThan(0);
    }
  });

  test("a weight that is off by one percent is noticed", async () => {
    const result = await reference.compare({
      algorithm: Algorithm.parse({ name: "ipa", failReward: -1 }),
      seed: 1,
      dtype: "float32",
      noiseOld: 0.1,
      noiseSampler: 0,
      spoil: ([first, ...rest]) => [first!.map((chunk) => chunk.map((weight) => weight * 1.01)), ...rest],
    });
    expect(result.relativeError).toBeGreaterThan(1e-4);
  });
});
