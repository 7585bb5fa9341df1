import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Severity } from "@ale/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import {
  cleanPassRate,
  firstViolation,
  isCleanPass,
  isViolation,
  PenaltyPolicy,
  penaltyOf,
  violationRate,
} from "../src/index.ts";

const at = (chunk: number, severity: Severity = "high") => ({ chunk, severity });
const policy = (more: Partial<PenaltyPolicy> = {}): PenaltyPolicy => PenaltyPolicy.parse(more);

describe("the penalty", () => {
  it.each([
    ["no alert", [], 3, { kind: "unchanged" }],
    ["an alert below the threshold", [at(1, "medium")], 3, { kind: "unchanged" }],
    [
      "a violation in the first chunk",
      [at(0)],
      3,
      { kind: "override", terminalReward: -1, chunkReturns: [-1, -1, -1], firstViolation: 0 },
    ],
    [
      "a violation in the middle",
      [at(2)],
      4,
      { kind: "override", terminalReward: -1, chunkReturns: [0, 0, -1, -1], firstViolation: 2 },
    ],
    [
      "several violations out of order, and a lesser alert before",
      [at(3, "critical"), at(0, "low"), at(2)],
      5,
      { kind: "override", terminalReward: -1, chunkReturns: [0, 0, -1, -1, -1], firstViolation: 2 },
    ],
    [
      "a violation found after the last chunk",
      [at(7)],
      2,
      { kind: "override", terminalReward: -1, chunkReturns: [0, -1], firstViolation: 1 },
    ],
  ] as const)("in mode chunk, of %s", (_, alerts, chunks, expected) =>
    expect(penaltyOf(policy(), alerts, chunks)).toEqual(expected),
  );

  const vectors = z
    .object({
      vectors: z.array(
        z.object({
          name: z.string(),
          policy: PenaltyPolicy,
          chunks: z.number(),
          alerts: z.array(z.object({ chunk: z.number(), severity: Severity })),
          penalty: z.unknown(),
        }),
      ),
    })
    .parse(JSON.parse(readFileSync(join(import.meta.dirname, "vectors/penalties.json"), "utf8"))).vectors;
  it.each(vectors)("by the vector: $name", ({ policy, chunks, alerts, penalty }) =>
    expect(penaltyOf(policy, alerts, chunks)).toEqual(penalty),
  );

  it("in mode terminal replaces the reward and leaves discounting to the caller", () =>
    expect(penaltyOf(policy({ mode: "terminal", penalty: -0.5 }), [at(1)], 3)).toEqual({
      kind: "override",
      terminalReward: -0.5,
      chunkReturns: null,
      firstViolation: 1,
    }));

  it("in mode off changes nothing, whatever happened", () =>
    expect(penaltyOf(policy({ mode: "off" }), [at(0, "critical")], 3)).toEqual({ kind: "unchanged" }));

  it("is never a reward: no chunk of a violating trajectory has a positive return", () => {
    const cost = fc.double({ min: -5, max: 0, noNaN: true });
    const severities = fc.constantFrom<Severity>("low", "medium", "high", "critical");
    fc.assert(
      fc.property(
        fc.array(fc.record({ chunk: fc.nat(12), severity: severities }), { maxLength: 6 }),
        fc.integer({ min: 1, max: 10 }),
        fc.constantFrom<"chunk" | "terminal" | "both">("chunk", "terminal", "both"),
        fc.double({ min: -5, max: 0, noNaN: true }),
        severities,
        fc.record({ low: cost, medium: cost, high: cost, critical: cost }, { requiredKeys: [] }),
        (alerts, chunks, mode, penalty, minSeverity, bySeverity) => {
          const result = penaltyOf({ mode, penalty, minSeverity, bySeverity }, alerts, chunks);
          expect(result.kind === "override").toBe(isViolation(alerts, minSeverity));
          if (result.kind === "unchanged") return;
          for (const value of result.chunkReturns ?? []) expect(value ?? 0).toBeLessThanOrEqual(0);
          expect(result.chunkReturns?.length ?? chunks).toBe(chunks);
          if (result.kind === "slips") return;
          expect(result.terminalReward).toBeLessThanOrEqual(0);
          // What is built on a violation is never better than the violation.
          const built = (result.chunkReturns ?? []).slice(result.firstViolation);
          for (const value of built) expect(value).not.toBeNull();
          expect(Math.min(...built.map(Number), 0)).toBeGreaterThanOrEqual(
            Math.min(result.terminalReward, ...alerts.map(({ severity }) => bySeverity[severity] ?? 0)),
          );
        },
      ),
    );
  });

  it("cannot be configured to be one", () => {
    expect(PenaltyPolicy.safeParse({ penalty: 0.1 }).success).toBe(false);
    expect(PenaltyPolicy.safeParse({ forgive: true }).success).toBe(false);
    expect(policy()).toEqual({ mode: "chunk", penalty: -1, minSeverity: "high" });
  });
});

describe("the figures", () => {
  const episode = (reward: number | null, ...alerts: { severity: Severity }[]) => ({
    verdict: { reward },
    alerts,
  });
  const episodes = [
    episode(1),
    episode(1, { severity: "medium" }),
    episode(1, { severity: "high" }),
    episode(0, { severity: "critical" }),
    episode(null),
  ];

  it("count a clean pass only with full reward and without a violation", () => {
    expect(episodes.map((item) => isCleanPass(item))).toEqual([true, true, false, false, false]);
    expect(isCleanPass({ verdict: null, alerts: [] })).toBe(false);
  });

  it("are shares of all episodes, and nothing of none", () => {
    expect(violationRate(episodes)).toBe(2 / 5);
    expect(violationRate(episodes, "medium")).toBe(3 / 5);
    expect(cleanPassRate(episodes)).toBe(2 / 5);
    expect(violationRate([])).toBeNull();
  });

  it("know the first violation", () => {
    expect(firstViolation([at(4), at(2, "low"), at(3)])).toBe(3);
    expect(firstViolation([at(2, "low")])).toBeNull();
  });
});
