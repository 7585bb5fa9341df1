import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  Algorithm,
  GrpoSettings,
  groupAdvantages,
  grpoBatch,
  type LearningTrajectory,
  needsThetaLogprobs,
  RaftSettings,
  ReinforceSettings,
  raftBatch,
  reinforceBatch,
  tokenWeights,
} from "../src/index.ts";
import { anyBatch, chunkFromLogRatios } from "./arbitraries.ts";

const grouped = (group: string, rFinal: number, ...logRatios: number[][]): LearningTrajectory => ({
  chunks: logRatios.map(chunkFromLogRatios),
  rFinal,
  prefixLength: 0,
  group,
});

describe("REINFORCE with the TOPR split (Eq. 6)", () => {
  test("failures share one geometric-mean ratio over the whole trajectory", () => {
    const settings = ReinforceSettings.parse({ failReward: -1 });
    const { weights } = reinforceBatch([grouped("a", 0, [-0.5, -0.3], [-0.1])], settings);
    weights.flat(2).forEach((weight) => {
      expect(weight).toBeCloseTo(-0.740818, 6);
    });
  });

  test("successes are not discounted: every token weighs R", () => {
    expect(reinforceBatch([grouped("a", 1, [0, 0], [5])], ReinforceSettings.parse({})).weights).toEqual([
      [[1, 1], [1]],
    ]);
  });
});

describe("GRPO", () => {
  test("advantages have mean 0 and deviation 1 within their group", () => {
    const batch = [
      grouped("a", 1, [0]),
      grouped("a", 0, [0]),
      grouped("b", 0.2, [0]),
      grouped("b", 0.8, [0]),
    ];
    const advantages = groupAdvantages(batch, true);
    [1, -1, -1, 1].forEach((expected, i) => {
      expect(advantages[i]).toBeCloseTo(expected, 4);
    });
    expect(groupAdvantages(batch, false)).toEqual([0.5, -0.5, -0.3, 0.30000000000000004]);
  });

  test("a group where all succeed or all fail gives no gradient", () => {
    const batch = [grouped("a", 1, [0.1]), grouped("a", 1, [0]), grouped("b", 0, [0]), grouped("b", 0, [0])];
    expect(grpoBatch(batch, GrpoSettings.parse({})).diagnostics.active).toBe(0);
  });

  test("the weight is the derivative of the clipped objective, checked by finite differences", () => {
    const settings = GrpoSettings.parse({ maskHigh: 1e12, normaliser: "token" });
    const objective = (batch: readonly LearningTrajectory[]): number => {
      const advantages = groupAdvantages(batch, true);
      let sum = 0;
      let tokens = 0;
      batch.forEach(({ chunks }, i) => {
        for (const chunk of chunks)
          chunk.logpTheta!.forEach((logp, t) => {
            const r = Math.exp(logp - chunk.logpOld[t]!);
            sum += Math.min(r * advantages[i]!, Math.min(Math.max(r, 0.8), 1.2) * advantages[i]!);
            tokens += 1;
          });
      });
      return sum / tokens;
    };
    const ratios = [-0.5, -0.1, 0, 0.1, 0.5];
    const batchAt = (t: number, shift: number): LearningTrajectory[] => [
      grouped(
        "a",
        1,
        ratios.map((value, i) => (i === t ? value + shift : value)),
      ),
      grouped("a", 0, ratios),
    ];
    const { weights } = grpoBatch(batchAt(0, 0), settings);
    ratios.forEach((_, t) => {
      const step = 1e-5;
      const slope = (objective(batchAt(t, step)) - objective(batchAt(t, -step))) / (2 * step);
      expect(weights[0]![0]![t]).toBeCloseTo(slope, 8);
    });
    expect(weights[0]![0]![4]).toBe(0);
    expect(weights[1]![0]![0]).toBe(0);
  });

  test("a trajectory without a group is refused", () => {
    const { group: _group, ...alone } = grouped("a", 1, [0]);
    expect(() => grpoBatch([alone], GrpoSettings.parse({}))).toThrow(/compares within a group/);
  });
});

describe("RAFT", () => {
  test("every token of a success weighs 1, a failure nothing", () => {
    const batch = [grouped("a", 0.3, [0, 1], [2]), grouped("a", 0, [0])];
    expect(raftBatch(batch, RaftSettings.parse({ normaliser: "chunk" })).weights).toEqual([
      [[1 / 3, 1 / 3], [1 / 3]],
      [[0]],
    ]);
  });
});

describe("the algorithm field of a recipe", () => {
  const names = ["ipa", "reinforce", "grpo", "raft"] as const;

  test("changing the name is enough to change the algorithm", () => {
    const batch = [grouped("a", 1, [0.05, -0.1], [0]), grouped("a", 0, [0, 0], [0.1])];
    const results = names.map((name) => tokenWeights(batch, Algorithm.parse({ name })).weights);
    expect(new Set(results.map((weights) => JSON.stringify(weights))).size).toBe(4 - 1); // RAFT = Eq. 6 for rewards of 0 and 1
    expect(results[1]).toEqual(results[3]);
  });

  test("an unknown key or name is refused", () => {
    expect(Algorithm.safeParse({ name: "ipa", gama: 0.9 }).success).toBe(false);
    expect(Algorithm.safeParse({ name: "ppo" }).success).toBe(false);
    expect(Algorithm.safeParse({ name: "raft", failReward: -1 }).success).toBe(false);
  });

  test("every algorithm answers one finite weight a token and leaves prefixes and experts alone", () => {
    fc.assert(
      fc.property(anyBatch, fc.constantFrom(...names), (batch, name) => {
        const { weights, diagnostics } = tokenWeights(batch, Algorithm.parse({ name }));
        batch.forEach((trajectory, i) => {
          trajectory.chunks.forEach((chunk, k) => {
            expect(weights[i]![k]).toHaveLength(chunk.tokens);
            for (const weight of weights[i]![k]!) {
              expect(Number.isFinite(weight)).toBe(true);
              if (k < trajectory.prefixLength || chunk.source === "expert") expect(weight).toBe(0);
            }
          });
        });
        const active = weights.filter((chunks) => chunks.flat().some((weight) => weight !== 0)).length;
        expect(diagnostics.active).toBe(active);
      }),
    );
  });

  test("where no second forward pass is asked for, the current policy does not change the weights", () => {
    fc.assert(
      fc.property(anyBatch, fc.constantFrom(...names), fc.constantFrom(0, -1), (batch, name, failReward) => {
        const keyed = name === "ipa" || name === "reinforce" ? { name, failReward } : { name };
        const algorithm = Algorithm.parse(keyed);
        fc.pre(!needsThetaLogprobs(batch, algorithm));
        const atOld = batch.map((item) => ({
          ...item,
          chunks: item.chunks.map(({ logpTheta: _theta, ...chunk }) => chunk),
        }));
        expect(tokenWeights(atOld, algorithm).weights).toEqual(tokenWeights(batch, algorithm).weights);
      }),
    );
  });
});
