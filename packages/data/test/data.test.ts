import { type Chunk, seededRandom, type Trajectory } from "@ale/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { rejectionOf, renamed, sftExamplesOf, shuffledBatches } from "../src/index.ts";

const chunk = (index: number, over: Partial<Chunk> = {}): Chunk => ({
  index,
  contextTokens: [1, 2],
  tokens: [10 + index, 20 + index],
  logprobs: [-0.1, -0.2],
  source: "policy",
  version: 3,
  malformed: false,
  failed: false,
  ...over,
});

const trajectory = (over: Partial<Trajectory> = {}): Trajectory => ({
  episode: "ep_1",
  run: null,
  group: null,
  purpose: "train",
  instance: { family: "toy" } as Trajectory["instance"],
  chunks: [chunk(0), chunk(1)],
  alerts: [],
  verdict: { reward: 1, tests: [], durationMs: 1 },
  termination: "submitted",
  faults: [],
  ...over,
});

describe("rejectionOf", () => {
  test("accepts a failed attempt: failing is the agent's doing and a signal", () => {
    expect(rejectionOf(trajectory({ verdict: { reward: 0, tests: [], durationMs: 1 } }))).toBeNull();
  });

  test.each<[string, Partial<Trajectory>]>([
    ["environment-fault", { faults: [{ type: "fault", chunk: 0, what: "sandbox", detail: "gone" }] }],
    [
      "environment-fault",
      { verdict: { reward: null, tests: [], durationMs: 1, environmentFault: "no reward file" } },
    ],
    ["environment-fault", { termination: "environment-fault" }],
    ["cancelled", { termination: "cancelled" }],
    ["no-verdict", { verdict: null }],
    ["empty", { chunks: [] }],
  ])("refuses: %s", (reason, over) => {
    expect(rejectionOf(trajectory(over))?.reason).toBe(reason);
  });

  test("refuses repeated ill-formed calls only where the setting asks for it", () => {
    const bad = trajectory({
      chunks: [chunk(0, { malformed: true }), chunk(1, { malformed: true }), chunk(2)],
    });
    expect(rejectionOf(bad)).toBeNull();
    expect(rejectionOf(bad, { malformedShare: 0.5 })?.reason).toBe("malformed-calls");
  });
});

describe("sftExamplesOf", () => {
  test("learns the chunks, never the context, and nothing of a chunk whose call failed", () => {
    const [example] = sftExamplesOf(trajectory({ chunks: [chunk(0), chunk(1, { failed: true }), chunk(2)] }));
    expect(example!.tokens).toEqual([1, 2, 10, 20, 1, 2, 11, 21, 1, 2, 12, 22]);
    expect(example!.mask).toEqual([0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
    expect(example!.learntTokens).toBe(4);
  });
});

describe("renamed", () => {
  const names = [100, 101, 102, 103, 104];
  const numbers = [106, 107];
  test("is one permutation of each group within an example and leaves everything else alone", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 95, max: 110 }), { maxLength: 40 }),
        fc.integer(),
        (tokens, seed) => {
          const example = {
            episode: "e",
            family: "f",
            tokens,
            mask: tokens.map(() => 1),
            learntTokens: tokens.length,
          };
          const out = renamed(example, [names, numbers], seededRandom(seed));
          const forward = new Map<number, number>();
          const backward = new Map<number, number>();
          tokens.forEach((token, i) => {
            const to = out.tokens[i]!;
            const group = [names, numbers].find((members) => members.includes(token)) ?? [token];
            expect(group).toContain(to);
            expect(forward.get(token) ?? to).toBe(to);
            expect(backward.get(to) ?? token).toBe(token);
            forward.set(token, to);
            backward.set(to, token);
          });
        },
      ),
    );
  });
});

describe("shuffledBatches", () => {
  test("gives every item once before any item twice", () => {
    const stream = shuffledBatches([0, 1, 2, 3, 4, 5], 4, seededRandom(7));
    const drawn = [...stream.next().value, ...stream.next().value, ...stream.next().value];
    expect([...drawn.slice(0, 6)].sort()).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...drawn.slice(6, 12)].sort()).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("skipping n batches continues exactly where n batches ended", () => {
    const whole = shuffledBatches([...Array(11).keys()], 3, seededRandom("x"));
    const expected = Array.from({ length: 9 }, () => whole.next().value).slice(5);
    const resumed = shuffledBatches([...Array(11).keys()], 3, seededRandom("x"), 5);
    expect(Array.from({ length: 4 }, () => resumed.next().value)).toEqual(expected);
  });
});
