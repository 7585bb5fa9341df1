import { describe, expect, it } from "vitest";
import {
  type ContextProfile,
  Event,
  Instance,
  isAtLeast,
  maxSeverity,
  profileHash,
  severityRank,
  trajectoryOf,
} from "../src/index.ts";
import { alert, begin, end, instance, profile, result, turn, verdict } from "./episode.ts";

describe("the hash of a context profile", () => {
  it("does not depend on how the profile was written down", () => {
    const reordered = Object.fromEntries(Object.entries(profile).reverse()) as ContextProfile;
    expect(profileHash(reordered)).toBe(profileHash(profile));
    expect(profileHash(profile)).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each<[string, ContextProfile]>([
    ["prompt", { ...profile, systemPrompt: "Be brief." }],
    ["truncation", { ...profile, truncation: { headChars: 100, tailChars: 99 } }],
    ["template", { ...profile, chatTemplate: "1".repeat(64) }],
    ["temperature", { ...profile, sampling: { ...profile.sampling, temperature: 0.9 } }],
  ])("changes with the %s", (_, changed) => expect(profileHash(changed)).not.toBe(profileHash(profile)));

  it("changes with the order of tools, which the model sees", () => {
    const tool = (name: string) => ({
      name,
      description: name,
      parameters: { type: "object" as const, properties: {}, required: [] },
    });
    const with2 = (...names: string[]) => profileHash({ ...profile, tools: names.map(tool) });
    expect(with2("bash", "read")).not.toBe(with2("read", "bash"));
  });

  it("is refused to something that is not a profile", () =>
    expect(() => profileHash({ ...profile, name: 3 } as unknown as ContextProfile)).toThrow());
});

describe("an instance", () => {
  it("gets safe limits when none are said", () =>
    expect(instance.limits).toMatchObject({
      cpus: 1,
      memoryBytes: 256 * 2 ** 20,
      pids: 64,
      execTimeoutMs: 5000,
    }));

  it("may have an install step, and means the same without one in either version", () => {
    const install = { commands: [{ command: "make" }] };
    expect(Instance.parse({ ...instance, schema: "ale/instance@2", install }).install).toEqual({
      commands: [{ command: "make", user: "root" }],
      env: {},
      timeoutMs: 60_000,
    });
    const schema = "ale/instance@2";
    expect(Instance.parse({ ...instance, schema })).toEqual({ ...instance, schema });
  });

  it.each([
    ["a relative file", { files: [{ path: "x", content: "" }] }],
    ["a network that does not exist", { network: { mode: "bridge" } }],
    ["no processes", { limits: { pids: 0 } }],
    ["a negative seed", { seed: -1 }],
    [
      "an install step that readers of its schema would leave out",
      { install: { commands: [{ command: "true" }] } },
    ],
    ["an install step that does nothing", { schema: "ale/instance@2", install: { commands: [] } }],
    [
      "a user that no environment has",
      { schema: "ale/instance@2", install: { commands: [{ command: "true", user: "bob" }] } },
    ],
  ])("is refused with %s", (_, wrong) =>
    expect(Instance.safeParse({ ...instance, ...wrong }).success).toBe(false),
  );
});

describe("events", () => {
  it("are told apart by type, and refused when a field does not fit", () => {
    expect(Event.parse(turn(0)).type).toBe("model.call");
    expect(Event.safeParse({ ...turn(0), tokens: [1.5] }).success).toBe(false);
    expect(Event.safeParse({ ...alert(0, "high"), chunk: -1 }).success).toBe(false);
  });
});

describe("severities", () => {
  it("are ordered", () => {
    expect((["low", "medium", "high", "critical"] as const).map(severityRank)).toEqual([0, 1, 2, 3]);
    expect(isAtLeast("high", "high")).toBe(true);
    expect(isAtLeast("medium", "high")).toBe(false);
    expect(maxSeverity([{ severity: "low" }, { severity: "critical" }, { severity: "high" }])).toBe(
      "critical",
    );
    expect(maxSeverity([])).toBeNull();
  });
});

describe("the trajectory of a log", () => {
  it("has one chunk for each model call, with its own tokens and what the environment said before it", () => {
    const { chunks } = trajectoryOf([
      begin("ep_1"),
      turn(0, [5]),
      result(0),
      turn(1, [6, 7]),
      result(1),
      end,
    ]);
    expect(chunks).toMatchObject([
      { index: 0, contextTokens: [1, 2], tokens: [5], logprobs: [-0.5], source: "policy", version: 4 },
      { index: 1, tokens: [6, 7] },
    ]);
  });

  it("marks chunks whose text was malformed and chunks with a failed call", () => {
    const { chunks } = trajectoryOf([
      begin("ep_1"),
      { ...turn(0), malformed: "no call", toolCalls: [] },
      turn(1),
      result(1, { isError: true, exitCode: 1 }),
      turn(2),
      result(2),
    ]);
    expect(chunks.map(({ malformed, failed }) => [malformed, failed])).toEqual([
      [true, false],
      [false, true],
      [false, false],
    ]);
  });

  it("carries alerts, faults, verdict and the reason for the end", () => {
    const fault = { type: "fault", chunk: null, what: "sandbox", detail: "gone" } as const;
    const trajectory = trajectoryOf([begin("ep_1"), turn(0), alert(0, "high"), fault, end, verdict(0.5)]);
    expect(trajectory).toMatchObject({
      episode: "ep_1",
      run: "run_1",
      group: "group_1",
      purpose: "train",
      termination: "submitted",
      verdict: { reward: 0.5 },
      faults: [fault],
    });
    expect(trajectory.alerts).toEqual([alert(0, "high").alert]);
  });

  it("of an episode that was cut off has neither end nor verdict", () =>
    expect(trajectoryOf([begin("ep_1"), turn(0)])).toMatchObject({ verdict: null, termination: null }));

  it("starts after the record of a repair, and with nothing else", () => {
    const repair = { type: "log.repair", droppedBytes: 3, droppedSha256: "0".repeat(64) } as const;
    expect(trajectoryOf([repair, begin("ep_1")]).episode).toBe("ep_1");
    expect(() => trajectoryOf([turn(0), begin("ep_1")])).toThrow("episode.begin");
    expect(() => trajectoryOf([])).toThrow("episode.begin");
  });
});
