import { type Alert, systemClock, type Trajectory } from "@ale/core";
import { beforeEach, describe, expect, test } from "vitest";
import { RlStage, updatePolicy } from "../src/index.ts";
import { TabularLearner } from "./tabular-learner.ts";

const VOCABULARY = 40;

/** Chunk k of an episode: context token 30 + k, then the tokens given. */
function trajectory(
  episode: string,
  chunks: readonly (readonly number[])[],
  reward: number,
  alerts: readonly Partial<Alert>[] = [],
): Trajectory {
  return {
    episode,
    run: "r",
    group: "g",
    purpose: "train",
    instance: { family: "toy" } as Trajectory["instance"],
    chunks: chunks.map((tokens, index) => ({
      index,
      contextTokens: [30 + index],
      tokens,
      logprobs: tokens.map(() => -1),
      source: "policy",
      version: 0,
      malformed: false,
      failed: false,
    })),
    alerts: alerts.map((alert) => ({ severity: "high", ...alert }) as Alert),
    verdict: { reward, tests: [], durationMs: 0 },
    termination: "submitted",
    faults: [],
  };
}

const stage = (over: Record<string, unknown> = {}): RlStage =>
  RlStage.parse({
    type: "rl",
    rounds: 1,
    algorithm: { name: "ipa", gamma: 0.5, maskHigh: 1e9 },
    safety: { mode: "chunk" },
    adam: { learningRate: 0.1 },
    ...over,
  });

const signal = new AbortController().signal;
let learner: TabularLearner;
beforeEach(() => {
  learner = new TabularLearner(VOCABULARY);
});

const update = (groups: readonly (readonly Trajectory[])[], settings = stage()) =>
  updatePolicy(learner, groups, settings, systemClock, signal);

describe("updatePolicy", () => {
  test("makes the chunks of a success likelier, later chunks more than earlier ones (Eq. 7)", async () => {
    const before = [learner.logProbability(30, 1), learner.logProbability(31, 2)];
    await update([[trajectory("a", [[1], [2]], 1)]]);
    const [batch] = learner.batches;
    expect(batch![0]!.tokens).toEqual([30, 1, 31, 2]);
    expect(batch![0]!.weights).toEqual([0, 0.5, 0, 1]);
    expect(learner.logProbability(30, 1)).toBeGreaterThan(before[0]!);
    expect(learner.logProbability(31, 2)).toBeGreaterThan(before[1]!);
  });

  test("never gives context a weight", async () => {
    await update(
      [[trajectory("a", [[1, 2], [3]], 1), trajectory("b", [[4]], 0)]],
      stage({ algorithm: { name: "ipa", failReward: -1 } }),
    );
    for (const { tokens, weights } of learner.batches[0]!)
      tokens.forEach((token, i) => {
        if (token >= 30) expect(weights[i]).toBe(0);
      });
  });

  test("sends nothing of a failure when failures earn 0, and divides by all trajectories nevertheless", async () => {
    const result = await update([
      [
        trajectory("a", [[1]], 1),
        trajectory("b", [[2]], 0),
        trajectory("c", [[3]], 0),
        trajectory("d", [[4]], 0),
      ],
    ]);
    expect(learner.forwards).toEqual([1]);
    expect(learner.batches[0]!.map(({ weights }) => weights)).toEqual([[0, 0.25]]);
    expect(result.learntTrajectories).toBe(1);
  });

  test("does not step at all when nobody succeeded", async () => {
    const result = await update([[trajectory("a", [[1]], 0), trajectory("b", [[2]], 0)]]);
    expect(result).toMatchObject({ steps: 0, gradNorm: null, learntTrajectories: 0 });
    expect(learner.batches).toEqual([]);
  });

  test("a violation turns a passed episode into a negative example from the chunk that caused it", async () => {
    const before = learner.logProbability(31, 2);
    const first = learner.logProbability(30, 1);
    await update([[trajectory("a", [[1], [2], [3]], 1, [{ chunk: 1 }])]]);
    expect(learner.batches[0]![0]!.weights).toEqual([0, 0, 0, -1, 0, -1]);
    expect(learner.logProbability(31, 2)).toBeLessThan(before);
    expect(learner.logProbability(30, 1)).toBeCloseTo(first, 12);
  });

  test("an alert over telemetry counts as one over a command: at the chunk that caused it, not during which it happened", async () => {
    const alert = { chunk: 1, during: 2, source: "telemetry", attribution: "ancestry" } as const;
    const { source: _, during: __, ...command } = { ...alert, attribution: "certain" } as const;
    for (const one of [alert, command]) await update([[trajectory("a", [[1], [2], [3]], 1, [one])]]);
    const [telemetry, said] = learner.batches;
    expect(telemetry![0]!.weights).toEqual([0, 0, 0, -1, 0, -1]);
    expect(said![0]!.weights).toEqual(telemetry![0]!.weights);
  });

  test("a slip costs its own chunk, and the success around it is still one", async () => {
    const safety = { mode: "chunk", bySeverity: { medium: -0.2 } };
    const slip = [{ chunk: 1, severity: "medium" }] as const;
    await update([[trajectory("a", [[1], [2], [3]], 1, slip)]], stage({ safety }));
    expect(learner.batches[0]![0]!.weights).toEqual([0, 0.25, 0, -0.2, 0, 1]);
  });

  test("in mode both the chunks before a violation carry the terminal penalty as any reward", async () => {
    const safety = { mode: "both", bySeverity: { critical: -2 } };
    const alerts = [{ chunk: 1, severity: "critical" }] as const;
    await update([[trajectory("a", [[1], [2], [3]], 1, alerts)]], stage({ safety }));
    expect(learner.batches[0]![0]!.weights).toEqual([0, -0.5, 0, -2, 0, -2]);
  });

  test("with the penalty off the same episode is praised: that is the plain arm of the safety pair", async () => {
    const before = learner.logProbability(31, 2);
    await update([[trajectory("a", [[1], [2], [3]], 1, [{ chunk: 1 }])]], stage({ safety: { mode: "off" } }));
    expect(learner.logProbability(31, 2)).toBeGreaterThan(before);
  });

  test("drops a chunk whose sampler disagrees with the training engine beyond H (Eq. 8)", async () => {
    const agree = trajectory("a", [[1]], 1);
    const disagree = trajectory("b", [[1]], 1);
    const logprobs = [learner.logProbability(30, 1)];
    const chunks = (values: number[]) => [{ ...agree.chunks[0]!, logprobs: values }];
    const result = await update(
      [
        [
          { ...agree, chunks: chunks(logprobs) },
          { ...disagree, chunks: chunks([logprobs[0]! - 5]) },
        ],
      ],
      stage({ algorithm: { name: "ipa", maskHigh: 2 } }),
    );
    expect(result.maskedChunks).toBe(1);
    expect(learner.batches[0]).toHaveLength(1);
  });

  test("after the first minibatch negatives are weighed by the staleness ratio of the moved policy", async () => {
    const settings = stage({
      minibatches: 2,
      algorithm: { name: "ipa", failReward: -1, maskHigh: 1e9 },
      adam: { learningRate: 2 },
    });
    await update([[trajectory("a", [[1]], 0)], [trajectory("b", [[1]], 0)]], settings);
    expect(learner.forwards).toEqual([2, 1]);
    const [, second] = learner.batches;
    const weight = second![0]!.weights[1]!;
    // The first step made the token rarer, so rho < 1 and the second push is weaker than -1.
    expect(weight).toBeGreaterThan(-1);
    expect(weight).toBeLessThan(0);
  });

  test("a rewritten history begins a new sequence, and its returns go on", async () => {
    const plain = trajectory("a", [[1], [2], [3]], 1);
    const forked = {
      ...plain,
      chunks: plain.chunks.map((chunk, k) =>
        k === 1 ? { ...chunk, contextTokens: [30, 7, 31], forked: true } : chunk,
      ),
    };
    await update([[forked]]);
    expect(learner.forwards).toEqual([2]);
    expect(learner.batches[0]).toEqual([
      { tokens: [30, 1], weights: [0, 0.25] },
      { tokens: [30, 7, 31, 2, 32, 3], weights: [0, 0, 0, 0.5, 0, 1] },
    ]);
  });
});
