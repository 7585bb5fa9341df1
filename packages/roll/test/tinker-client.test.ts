import { existsSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "@ale/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type AdamSettings,
  engineUpstream,
  scoringDatum,
  type TinkerModel,
  type TinkerSession,
  weightedDatum,
} from "../src/index.ts";
import { located, type RunningEngine, runningEngine, skipReason, VOCABULARY } from "./nano-engine.ts";

const adam: AdamSettings = {
  learningRate: 1e-2,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
  weightDecay: 0,
  gradClipNorm: 0,
};

describe.skipIf(!located.ok)(`the Tinker client against the real engine${skipReason}`, () => {
  let engine: RunningEngine;
  let session: TinkerSession;
  const random = seededRandom("tinker-client");
  const sequence = (length: number): number[] => Array.from({ length }, () => random.int(VOCABULARY));
  const freshModel = (): Promise<TinkerModel> => session.createModel({ baseModel: "nano", seed: 3 });

  beforeAll(async () => {
    engine = await runningEngine();
    session = await engine.client.createSession();
  });
  afterAll(() => engine?.close());

  test("health and the list of models", async () => {
    await engine.client.health();
    expect(await engine.client.models()).toEqual(["nano"]);
  });

  test("sampled log-probabilities are those of a forward pass over the same tokens", async () => {
    const model = await freshModel();
    const sampler = await model.sampler();
    const prompt = sequence(7);
    const request = {
      prompt,
      samples: 3,
      maxTokens: 12,
      temperature: 0.7,
      topP: 0.9,
      topK: 20,
      stop: [],
      seed: 5,
    };
    const samples = await sampler.sample(request);
    expect(samples.map((sample) => sample.tokens.length)).toEqual([12, 12, 12]);
    expect(new Set(samples.map((sample) => sample.tokens.join())).size).toBe(3);
    const { logprobs } = await model.forward(
      samples.map(({ tokens }) => scoringDatum([...prompt, ...tokens])),
    );
    samples.forEach((sample, i) => {
      sample.logprobs.forEach((logprob, t) => {
        // Temperature, top-p and top-k choose tokens; what is recorded is the policy itself.
        expect(logprob).toBeCloseTo(logprobs[i]![prompt.length - 1 + t]!, 4);
      });
    });
  });

  test("the same seed samples the same tokens, alone or among many", async () => {
    const sampler = await (await freshModel()).sampler();
    const request = {
      prompt: sequence(5),
      maxTokens: 16,
      temperature: 1,
      topP: 1,
      topK: -1,
      stop: [],
      seed: 11,
    };
    const [alone] = await sampler.sample(request);
    const others = Array.from({ length: 20 }, (_, seed) =>
      sampler.sample({ ...request, prompt: sequence(9), seed }),
    );
    const [[among]] = await Promise.all([sampler.sample(request), ...others]);
    expect(among!.tokens).toEqual(alone!.tokens);
  });

  test("a stop token ends the sample and is its last token", async () => {
    const sampler = await (await freshModel()).sampler();
    const stop = Array.from({ length: 32 }, (_, token) => token);
    const request = { prompt: sequence(4), maxTokens: 64, temperature: 1, topP: 1, topK: -1, stop, seed: 2 };
    const [sample] = await sampler.sample(request);
    expect(sample!.stopReason).toBe("stop");
    expect(stop).toContain(sample!.tokens.at(-1));
    expect(sample!.tokens.slice(0, -1).every((token) => !stop.includes(token))).toBe(true);
  });

  test("the upstream stamps the policy version on what it samples", async () => {
    const upstream = engineUpstream(await (await freshModel()).sampler(), "nano", 17);
    const request = { prompt: sequence(4), maxTokens: 5, temperature: 1, topP: 1, topK: -1, stop: [] };
    const sampled = await upstream.sample(request);
    expect(sampled).toMatchObject({ version: 17, stopReason: "length" });
    expect(sampled.tokens).toHaveLength(5);
    expect(sampled.logprobs).toHaveLength(5);
  });

  test("the loss is −Σ w log π, a true sum of signed weights", async () => {
    const model = await freshModel();
    const tokens = sequence(10);
    const weights = tokens.map((_token, t) => (t === 0 ? 0 : random.next() - 0.5));
    const { logprobs, loss } = await model.forwardBackward([weightedDatum(tokens, weights)]);
    const expected = -logprobs[0]!.reduce((sum, logprob, n) => sum + weights[n + 1]! * logprob, 0);
    expect(loss).toBeCloseTo(expected, 4);
  });

  test("twice the weights is twice the gradient, however it is split, and weights that cancel are none", async () => {
    const model = await freshModel();
    const tokens = sequence(10);
    const at = (scale: number) =>
      weightedDatum(
        tokens,
        tokens.map((_token, t) => (t === 0 ? 0 : scale)),
      );
    const still = { ...adam, learningRate: 0 };
    const norm = async (...scales: number[]): Promise<number> => {
      for (const scale of scales) await model.forwardBackward([at(scale)]);
      return (await model.optimStep(still)).gradNorm!;
    };
    const once = await norm(1);
    expect((await norm(2)) / once).toBeCloseTo(2, 4);
    expect((await norm(1, 1)) / once).toBeCloseTo(2, 4);
    expect((await norm(-1)) / once).toBeCloseTo(1, 4);
    expect((await norm(1, -1)) / once).toBeLessThan(1e-5);
  });

  test("following a positive weight makes the token more likely, a negative one less", async () => {
    const model = await freshModel();
    const tokens = sequence(6);
    const score = async (): Promise<readonly number[]> =>
      (await model.forward([scoringDatum(tokens)])).logprobs[0]!;
    const before = await score();
    await model.forwardBackward([weightedDatum(tokens, [0, 0, 1, 0, -1, 0])]);
    await model.optimStep(adam);
    const after = await score();
    expect(after[1]).toBeGreaterThan(before[1]!);
    expect(after[3]).toBeLessThan(before[3]!);
  });

  test("a sampler keeps the weights it was made of while training goes on", async () => {
    const model = await freshModel();
    const sampler = await model.sampler();
    const request = {
      prompt: sequence(6),
      maxTokens: 8,
      temperature: 1,
      topP: 1,
      topK: -1,
      stop: [],
      seed: 4,
    };
    const [before] = await sampler.sample(request);
    await model.forwardBackward([weightedDatum(sequence(20), [0, ...new Array<number>(19).fill(1)])]);
    await model.optimStep({ ...adam, learningRate: 0.1 });
    const [after] = await sampler.sample(request);
    const [trained] = await (await model.sampler()).sample(request);
    expect(after!.tokens).toEqual(before!.tokens);
    after!.logprobs.forEach((logprob, t) => {
      expect(logprob).toBeCloseTo(before!.logprobs[t]!, 4);
    });
    expect(trained!.logprobs[0]).not.toBeCloseTo(before!.logprobs[0]!, 2);
  });

  test("training goes on from saved weights exactly as if it had never stopped", async () => {
    const model = await freshModel();
    const batches = Array.from({ length: 4 }, () => [
      weightedDatum(sequence(12), [0, ...new Array<number>(11).fill(1)]),
    ]);
    const train = async (of: TinkerModel, batch: (typeof batches)[number]): Promise<number> => {
      const { loss } = await of.forwardBackward(batch);
      await of.optimStep(adam);
      return loss!;
    };
    for (const batch of batches.slice(0, 2)) await train(model, batch);
    const saved = await model.saveWeights("two");
    expect(saved.path).toMatch(/^tinker:\/\/.+\/weights\/two$/);
    const resumed = await session.loadModel(saved.path, true);
    for (const batch of batches.slice(2)) expect(await train(resumed, batch)).toBe(await train(model, batch));
  });

  test("weights saved for sampling are a model directory, and a sampler of them is the same policy", async () => {
    const model = await freshModel();
    const saved = await model.saveSamplerWeights("final");
    expect(existsSync(join(saved.directory!, "config.json"))).toBe(true);
    const request = {
      prompt: sequence(6),
      maxTokens: 8,
      temperature: 1,
      topP: 1,
      topK: -1,
      stop: [],
      seed: 4,
    };
    const loaded = await session.openSampler({ modelPath: saved.path });
    const [fromDisk] = await loaded.sample(request);
    const [fromMemory] = await (await model.sampler()).sample(request);
    expect(fromDisk!.tokens).toEqual(fromMemory!.tokens);
  });

  test("data that the engine refuses is engine-rejected, leaves the weights alone, and training can go on", async () => {
    const model = await freshModel();
    const good = weightedDatum([1, 2, 3], [0, 1, 1]);
    const before = (await model.forward([good])).logprobs;
    const outside = weightedDatum([1, VOCABULARY], [0, 1]);
    await expect(model.forwardBackward([good, outside])).rejects.toMatchObject({
      code: "engine-rejected",
      message: expect.stringMatching(/datum 1: .*outside the vocabulary of 64/),
    });
    await expect(model.optimStep(adam)).rejects.toMatchObject({ code: "engine-rejected" });
    expect((await model.forward([good])).logprobs).toEqual(before);
    await model.forwardBackward([good]);
    expect((await model.optimStep(adam)).gradNorm).toBeGreaterThan(0);
  });

  test("a base model that is not served is engine-rejected and names those that are", async () => {
    await expect(session.createModel({ baseModel: "giant" })).rejects.toMatchObject({
      code: "engine-rejected",
      message: expect.stringMatching(/giant.*nano/),
    });
  });

  test("a finished session has freed its models", async () => {
    const other = await engine.client.createSession();
    const model = await other.createModel({ baseModel: "nano" });
    await other.finish();
    await expect(model.forward([scoringDatum([1, 2])])).rejects.toMatchObject({ code: "engine-rejected" });
    await expect(other.createModel({ baseModel: "nano" })).rejects.toMatchObject({ code: "engine-rejected" });
  });

  test("a hundred samples at once come back in full", async () => {
    const sampler = await (await freshModel()).sampler();
    const samples = await Promise.all(
      Array.from({ length: 100 }, (_, seed) =>
        sampler.sample({
          prompt: sequence(3 + (seed % 20)),
          maxTokens: 10,
          temperature: 1,
          topP: 1,
          topK: -1,
          stop: [1],
          seed,
        }),
      ),
    );
    expect(samples.flat()).toHaveLength(100);
    expect(samples.flat().every(({ tokens, logprobs }) => tokens.length === logprobs.length)).toBe(true);
  });
});
