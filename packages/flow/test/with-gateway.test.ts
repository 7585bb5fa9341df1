import { canonicalJson, Event, systemClock, systemIds, trajectoryOf } from "@ale/core";
import { codecFrom, nanoTokenizer, openConversation, scriptedUpstream } from "@ale/gateway";
import { describe, expect, test } from "vitest";
import { type Model, nanoProfile, render, runAgent } from "../src/index.ts";
import { localRuntime } from "./local-runtime.ts";

/** The agent and the gateway know nothing of each other; what they promise each other holds only if it holds together. */
const { tokenizer, config } = nanoTokenizer(["bash", "cat", "echo", "moss", "submit", " ", "> ", " > "]);
const codec = codecFrom({ tokenizer, config });
const profile = nanoProfile(codec.chatTemplateSha256);

async function episode(lines: readonly string[]) {
  await using runtime = await localRuntime();
  const upstream = scriptedUpstream(
    lines.map((line) => codec.encodeRendered(line)),
    { version: 5 },
  );
  const model: Model = openConversation({ codec, profile, upstream, ids: systemIds });
  const log: string[] = [];
  const emit = (event: Event): void => void log.push(canonicalJson(event));
  const options = { model, runtime, profile, instruction: "echo moss", emit, clock: systemClock };
  const outcome = await runAgent(options, new AbortController().signal);
  return { outcome, upstream, events: log.map((line) => Event.parse(JSON.parse(line))) };
}

describe("an episode of agent and gateway", () => {
  const lines = [
    "bash<|arg|>echo moss > f; cat f<|end|>",
    "bash<|arg|>cat f<|arg|>f<|end|>",
    "bash<|arg|>cat none<|end|>",
    "submit<|end|>",
  ];

  test("leaves a log from which training has every token that was sent and sampled", async () => {
    const { outcome, upstream, events } = await episode(lines);
    expect(outcome).toEqual({ termination: "submitted", chunks: 4 });
    let tokens: number[] = [];
    const calls = events.filter((event) => event.type === "model.call");
    for (const [i, call] of calls.entries()) {
      tokens = [...tokens, ...call.contextTokens];
      expect(upstream.requests[i]!.prompt).toEqual(tokens);
      tokens = [...tokens, ...call.tokens];
      expect(call).toMatchObject({ version: 5, source: "policy", logprobs: call.tokens.map(() => -0.5) });
    }
    expect(codec.decode(tokens)).toBe(
      "<|user|>echo moss<|end|><|act|>bash<|arg|>echo moss > f; cat f<|end|><|obs|>moss<|end|>" +
        "<|act|>bash<|arg|>cat f<|arg|>f<|end|><|obs|>error: too many values<|end|>" +
        "<|act|>bash<|arg|>cat none<|end|><|obs|>cat: none: No such file or directory\nexit 1<|end|><|act|>submit<|end|>",
    );
  });

  test("renders from its log to the same tokens, after the log was written and read", async () => {
    const { upstream, events } = await episode([
      "bash<|arg|>echo moss<|end|>",
      "bash<|arg|>cat none<|end|>",
      "submit<|end|>",
    ]);
    const last = events.findLastIndex((event) => event.type === "model.call");
    const messages = render(events.slice(0, last), profile);
    const rendered = codec.render(messages, profile.tools, { addGenerationPrompt: true });
    expect(codec.encodeRendered(rendered)).toEqual(upstream.requests[2]!.prompt);
  });

  test("ends when the next chunk might not fit", async () => {
    const many = Array.from(
      { length: 30 },
      () => "bash<|arg|>echo moss moss moss moss moss moss moss moss<|end|>",
    );
    const { outcome, upstream } = await episode(many);
    expect(outcome.termination).toBe("max-context");
    for (const { prompt, maxTokens } of upstream.requests)
      expect(prompt.length + maxTokens).toBeLessThanOrEqual(profile.limits.maxContextTokens);
  });

  test("becomes a trajectory that marks what was malformed and what failed", async () => {
    const { events } = await episode(lines);
    const begin = { type: "episode.begin" } as Event;
    const { chunks } = trajectoryOf([begin, ...events]);
    expect(chunks.map(({ malformed, failed }) => ({ malformed, failed }))).toEqual([
      { malformed: false, failed: false },
      { malformed: true, failed: true },
      { malformed: false, failed: true },
      { malformed: false, failed: false },
    ]);
  });
});
