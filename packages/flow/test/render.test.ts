import { Event } from "@ale/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nanoProfile, render, standardProfile } from "../src/index.ts";

const nano = nanoProfile("0".repeat(64));
const standard = standardProfile("0".repeat(64));

const call = fc.record({
  id: fc.string(),
  name: fc.string(),
  arguments: fc.dictionary(fc.string(), fc.string()),
});
const base = {
  contextTokens: [],
  tokens: [],
  logprobs: [],
  source: "policy",
  version: 1,
  stopReason: "stop",
};
const result = { exitCode: 0, timedOut: false, outputBytes: 0, durationMs: 0, isError: false };

const event = fc
  .oneof(
    fc.record({
      type: fc.constant("message"),
      role: fc.constantFrom("user", "system"),
      content: fc.string(),
    }),
    fc
      .record({ text: fc.string(), toolCalls: fc.array(call, { maxLength: 2 }), chunk: fc.nat() })
      .map((fields) => ({ type: "model.call", ...base, ...fields })),
    fc.record({ call, chunk: fc.nat() }).map((fields) => ({ type: "tool.call", ...fields })),
    fc
      .record({ callId: fc.string(), name: fc.string(), content: fc.string(), chunk: fc.nat() })
      .map((fields) => ({ type: "tool.result", ...result, ...fields })),
    fc.constant({ type: "fault", chunk: null, what: "sandbox", detail: "gone" }),
    fc.constant({ type: "episode.end", termination: "submitted", chunks: 1 }),
    fc.constant({ type: "verdict", verdict: { reward: 1, tests: [], durationMs: 1 } }),
  )
  .map((value) => Event.parse(value));

describe("the context", () => {
  test("of a log begins with the context of every shorter log", () => {
    fc.assert(
      fc.property(
        fc.array(event, { maxLength: 12 }),
        fc.nat({ max: 12 }),
        fc.constantFrom(nano, standard),
        (log, cut, profile) => {
          const shorter = render(log.slice(0, cut), profile);
          expect(render(log, profile).slice(0, shorter.length)).toEqual(shorter);
        },
      ),
    );
  });

  test("is the same after the log was written and read again", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 6 }), (log) => {
        const read = JSON.parse(JSON.stringify(log)).map((each: unknown) => Event.parse(each));
        expect(render(read, nano)).toEqual(render(log, nano));
      }),
    );
  });

  test("opens with the profile's system prompt, if it has one", () => {
    expect(render([], standard)).toEqual([{ role: "system", content: standard.systemPrompt }]);
    expect(render([], nano)).toEqual([]);
  });

  test("holds nothing of what is recorded beside the conversation", () => {
    const beside = [
      { type: "tool.call", chunk: 0, call: { id: "1", name: "bash", arguments: {} } },
      { type: "verdict", verdict: { reward: 1, tests: [], durationMs: 1 } },
    ].map((each) => Event.parse(each));
    expect(render(beside, nano)).toEqual([]);
  });
});
