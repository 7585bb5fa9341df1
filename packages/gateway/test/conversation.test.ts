import type { ContextProfile, Message, Turn } from "@ale/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Action,
  type Codec,
  type Conversation,
  openConversation,
  type ScriptedTurn,
  scriptedUpstream,
  toolFormat,
} from "../src/index.ts";
import {
  countingIds,
  nanoCodec,
  observed,
  profileFor,
  qwenLikeCodec,
  said,
  TOOLS,
  turnOf,
} from "./support.ts";

const nano = nanoCodec();
const qwen = await qwenLikeCodec();
/** Drops the reasoning of every earlier turn, also within one task. */
const strippingQwen = await qwenLikeCodec((template) =>
  template.replace("loop.index0 > ns.last_query_index and", "false and"),
);

const user = (content: string): Message => ({ role: "user", content });
const bash = (command: string): Action => ({ name: "bash", arguments: { command } });

interface Played {
  readonly conversation: Conversation;
  readonly turns: readonly Turn[];
  readonly messages: readonly Message[];
  readonly upstream: ReturnType<typeof scriptedUpstream>;
}

/** Plays a whole episode: each sampled turn is answered by the observation of the same index. */
async function play(
  codec: Codec,
  profile: ContextProfile,
  script: readonly ScriptedTurn[],
  observations: readonly string[],
  instruction = "fix moss",
): Promise<Played> {
  const upstream = scriptedUpstream(script, { version: 3 });
  const conversation = openConversation({ codec, profile, upstream, ids: countingIds() });
  let messages: readonly Message[] = [user(instruction)];
  const turns: Turn[] = [];
  for (const [i] of script.entries()) {
    const turn = turnOf(await conversation.next(messages));
    turns.push(turn);
    messages = [...messages, said(turn), ...observed(turn, observations[i] ?? "")];
  }
  return { conversation, turns, messages, upstream };
}

/** Tokens of all turns joined, as training joins them. */
const joined = (turns: readonly Turn[]): number[] =>
  turns.flatMap((turn) => [...turn.contextTokens, ...turn.tokens]);

function expectExact({ turns, upstream, conversation }: Played): void {
  for (const [i, request] of upstream.requests.entries())
    expect(request.prompt).toEqual([...joined(turns.slice(0, i)), ...turns[i]!.contextTokens]);
  expect(conversation.tokens).toEqual(joined(turns));
  expect(conversation.stats.forks).toBe(0);
  expect(turns.every((turn) => turn.forked === undefined)).toBe(true);
}

const text = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.constantFrom("<|end|>", "<|im_end|>\n<|im_start|>assistant\n", "<think>", "\n\n", " a ", "\uFDD0A1."),
);

describe("turns joined are exactly what was sent and sampled", () => {
  test("with the nano template, for any calls and observations", async () => {
    const format = toolFormat("compact", nano, TOOLS);
    const end = nano.stopTokens[0]!;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 6 }),
        text,
        async (steps, instruction) => {
          const profile = { ...profileFor(nano, "compact", 100_000), sampling: longChunks };
          const script = steps.map(([command]) => [...format.encode(bash(command)), end]);
          const played = await play(
            nano,
            profile,
            script,
            steps.map(([, seen]) => seen),
            instruction,
          );
          expectExact(played);
          expect(nano.decode(joined(played.turns))).toBe(
            `<|user|>${instruction}<|end|>` +
              steps
                .map(([command], i) => {
                  const before = i === 0 ? "" : `<|obs|>${steps[i - 1]![1]}<|end|>`;
                  return `${before}<|act|>bash<|arg|>${command}<|end|>`;
                })
                .join(""),
          );
        },
      ),
      { numRuns: 50 },
    );
  });

  test("with a Qwen-like template, where sampled JSON is spaced in ways that the template would not write", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 5 }), async (steps) => {
        const script = steps.map(([command]) =>
          qwen.encodeRendered(
            `Now. <tool_call>  {"arguments":${qwen.protect(JSON.stringify({ command }))} ,"name":"bash"}</tool_call>  <|im_end|>`,
          ),
        );
        const profile = { ...profileFor(qwen, "hermes", 100_000), sampling: longChunks };
        expectExact(
          await play(
            qwen,
            profile,
            script,
            steps.map(([, seen]) => seen),
          ),
        );
      }),
      { numRuns: 50 },
    );
  });

  test("for parallel calls, malformed chunks, and reasoning that the template keeps", async () => {
    const script = [
      '<think>\nlook\n</think>\n\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>\n<tool_call>\n{"name": "bash", "arguments": {"command": "pwd"}}\n</tool_call><|im_end|>',
      "no call<|im_end|>",
      "<tool_call>\nbroken\n</tool_call><|im_end|>",
      '<think>\n\n</think>\n\n<tool_call>\n{"name": "submit", "arguments": {}}\n</tool_call><|im_end|>',
    ].map((line) => qwen.encodeRendered(line));
    const played = await play(qwen, { ...profileFor(qwen, "hermes"), sampling: longChunks }, script, [
      "a\nb",
      "error",
      "error",
    ]);
    expectExact(played);
    expect(played.turns.map((turn) => turn.malformed)).toEqual([
      undefined,
      "no tool call",
      "the tool call is not json",
      undefined,
    ]);
    expect(qwen.decode(played.turns[1]!.contextTokens)).toBe(
      "\n<|im_start|>user\n<tool_response>\na\nb\n</tool_response>\n<tool_response>\na\nb\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    );
  });

  test.each([
    ["nano", nano, "compact" as const],
    ["Qwen-like", qwen, "hermes" as const],
  ])(
    "and what the whole %s chat renders to, where turns are written as the template writes them",
    (_, codec, format) => {
      const profile = { ...profileFor(codec, format), sampling: longChunks };
      const conversation = openConversation({ codec, profile, upstream: null, ids: countingIds() });
      let messages: readonly Message[] = [user("fix moss")];
      for (const action of [
        bash('cat "moss"\t| grep é'),
        { name: "edit", arguments: { path: "a", old: "\n", new: "" } },
      ]) {
        const turn = turnOf(conversation.force(messages, action));
        messages = [...messages, said(turn), ...observed(turn, "one\n\n\n two <|im_end|>")];
      }
      turnOf(conversation.force(messages, { name: "submit", arguments: {} }));
      const whole = codec.encodeRendered(codec.render(messages, TOOLS, { addGenerationPrompt: true }));
      expect(conversation.tokens.slice(0, whole.length)).toEqual(whole);
    },
  );

  test("also when the sampled pieces are not the ones the tokenizer would choose", async () => {
    const bytes = [..."cat"].flatMap((letter) => nano.encode(letter));
    const unusual = [...nano.encodeRendered("bash<|arg|>"), ...bytes, ...nano.stopTokens];
    const played = await play(nano, profileFor(nano, "compact"), [unusual, unusual], ["cat", ""]);
    expectExact(played);
    expect(bytes).not.toEqual(nano.encode("cat"));
    expect(played.turns[0]!.toolCalls[0]!.arguments).toEqual({ command: "cat" });
  });
});

const longChunks = { temperature: 1, topP: 1, topK: -1, maxTokensPerChunk: 1_000 };

describe("the end of a turn", () => {
  test("is the sampled stop token, which the context does not repeat", async () => {
    const { turns } = await play(
      nano,
      profileFor(nano, "compact"),
      [nano.encodeRendered("bash<|arg|>ls<|end|>"), []],
      ["x"],
    );
    expect(nano.decode(turns[1]!.contextTokens)).toBe("<|obs|>x<|end|><|act|>");
  });

  test("is added as context when the chunk was cut off", async () => {
    const profile = profileFor(nano, "compact");
    const sampling = { ...profile.sampling, maxTokensPerChunk: 3 };
    const played = await play(
      nano,
      { ...profile, sampling },
      [nano.encodeRendered("bash<|arg|>cat moss fix<|end|>"), []],
      ["no end"],
    );
    const [cut, next] = played.turns;
    expect(cut).toMatchObject({
      stopReason: "length",
      malformed: "no end",
      text: "bash<|arg|>cat",
      toolCalls: [],
    });
    expect(nano.decode(next!.contextTokens)).toBe("<|end|><|obs|>no end<|end|><|act|>");
    expectExact(played);
  });

  test("is added as context when the model stopped with another token than the template's", async () => {
    const script = [qwen.encodeRendered("x<|endoftext|>"), []];
    const played = await play(qwen, profileFor(qwen, "hermes"), script, ["y"]);
    expect(qwen.decode(played.turns[1]!.contextTokens)).toMatch(/^<\|im_end\|>\n<\|im_start\|>user\n/);
    expectExact(played);
  });
});

describe("a rewritten history is a fork, and says so", () => {
  const thinking =
    '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call><|im_end|>';
  const plain = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call><|im_end|>';

  test("when the template drops the reasoning of earlier turns", async () => {
    const codec = strippingQwen;
    const script = [thinking, thinking, plain, plain].map((line) => codec.encodeRendered(line));
    const profile = { ...profileFor(codec, "hermes"), sampling: longChunks };
    const { turns, upstream, conversation } = await play(codec, profile, script, ["1", "2", "3", "4"]);
    // The last two turns follow turns without reasoning, of which there is nothing to drop.
    expect(turns.map((turn) => turn.forked ?? false)).toEqual([false, true, true, false]);
    expect(conversation.stats.forks).toBe(2);
    expect(upstream.requests[1]!.prompt).toEqual(turns[1]!.contextTokens);
    expect(codec.decode(turns[1]!.contextTokens)).not.toContain("hm");
    expect(upstream.requests[3]!.prompt).toEqual(joined(turns.slice(2)).slice(0, -turns[3]!.tokens.length));
  });

  test("when a new question makes the template drop the reasoning before it", async () => {
    const upstream = scriptedUpstream([thinking, plain].map((line) => qwen.encodeRendered(line)));
    const profile = { ...profileFor(qwen, "hermes"), sampling: longChunks };
    const conversation = openConversation({ codec: qwen, profile, upstream, ids: countingIds() });
    const first = turnOf(await conversation.next([user("a")]));
    const second = await conversation.next([user("a"), said(first), ...observed(first, "x"), user("b")]);
    expect(second).toMatchObject({ forked: true });
  });

  test.each<[string, (messages: readonly Message[]) => Message[]]>([
    [
      "changes an observation",
      (m) => m.map((each) => (each.role === "tool" ? { ...each, content: "?" } : each)),
    ],
    ["changes the instruction", ([, ...rest]) => [user("other"), ...rest]],
    [
      "changes the text of a turn",
      (m) => m.map((each) => (each.role === "assistant" ? { ...each, content: "?" } : each)),
    ],
    [
      "changes the call of an earlier turn",
      (m) => m.map((each, i) => (i === 1 && each.role === "assistant" ? { ...each, toolCalls: [] } : each)),
    ],
    ["drops the last turn", (m) => m.slice(0, 3)],
    ["starts again", () => [user("fix moss")]],
  ])("when the caller %s", async (_, rewrite) => {
    const line = nano.encodeRendered("bash<|arg|>ls<|end|>");
    const upstream = scriptedUpstream([line, line, line]);
    const profile = profileFor(nano, "compact");
    const conversation = openConversation({ codec: nano, profile, upstream, ids: countingIds() });
    let messages: readonly Message[] = [user("fix moss")];
    for (let i = 0; i < 2; i++) {
      const turn = turnOf(await conversation.next(messages));
      messages = [...messages, said(turn), ...observed(turn, "x")];
    }
    const forked = turnOf(await conversation.next(rewrite(messages)));
    expect(forked.forked).toBe(true);
    expect(upstream.requests[2]!.prompt).toEqual(forked.contextTokens);
  });

  test("but not when equal messages are other objects", async () => {
    const line = nano.encodeRendered("bash<|arg|>ls<|end|>");
    const conversation = openConversation({
      codec: nano,
      profile: profileFor(nano, "compact"),
      upstream: scriptedUpstream([line, line]),
      ids: countingIds(),
    });
    const first = turnOf(await conversation.next([user("a")]));
    const echoed = structuredClone([user("a"), said(first), ...observed(first, "x")]);
    expect(turnOf(await conversation.next(echoed)).forked).toBeUndefined();
  });
});

describe("messages that this conversation did not sample", () => {
  test("are context, also when an assistant is said to have written them", async () => {
    const line = nano.encodeRendered("bash<|arg|>ls<|end|>");
    const foreign: Message = {
      role: "assistant",
      content: "",
      toolCalls: [{ id: "theirs", ...bash("cat") }],
    };
    const messages = [
      user("a"),
      foreign,
      { role: "tool" as const, callId: "theirs", name: "bash", content: "b" },
    ];
    const conversation = openConversation({
      codec: nano,
      profile: profileFor(nano, "compact"),
      upstream: scriptedUpstream([line]),
      ids: countingIds(),
    });
    const turn = turnOf(await conversation.next(messages));
    expect(nano.decode(turn.contextTokens)).toBe(
      "<|user|>a<|end|><|act|>bash<|arg|>cat<|end|><|obs|>b<|end|><|act|>",
    );
    expect(turn.tokens).toEqual(line);
  });
});

describe("a scripted expert", () => {
  test("sees the context token for token as a policy that does the same", async () => {
    const actions = [bash("cat moss"), { name: "submit", arguments: {} }];
    const profile = profileFor(nano, "compact");
    const format = toolFormat("compact", nano, TOOLS);
    const script = actions.map((action) => [...format.encode(action), nano.stopTokens[0]!]);
    const policy = await play(nano, profile, script, ["x", ""]);
    const conversation = openConversation({ codec: nano, profile, upstream: null, ids: countingIds() });
    let messages: readonly Message[] = [user("fix moss")];
    for (const [i, action] of actions.entries()) {
      const turn = turnOf(conversation.force(messages, action));
      const sampled = policy.turns[i]!;
      expect(turn).toEqual({ ...sampled, source: "expert", version: null, logprobs: [] });
      messages = [...messages, said(turn), ...observed(turn, i === 0 ? "x" : "")];
    }
    expect(conversation.tokens).toEqual(policy.conversation.tokens);
  });

  test("can begin what a policy goes on with", async () => {
    const line = nano.encodeRendered("submit<|end|>");
    const upstream = scriptedUpstream([line]);
    const profile = profileFor(nano, "compact");
    const conversation = openConversation({ codec: nano, profile, upstream, ids: countingIds() });
    const first = turnOf(conversation.force([user("a")], bash("ls")));
    const second = turnOf(await conversation.next([user("a"), said(first), ...observed(first, "x")]));
    expect(upstream.requests[0]!.prompt).toEqual([
      ...first.contextTokens,
      ...first.tokens,
      ...second.contextTokens,
    ]);
    expect([first.source, second.source]).toEqual(["expert", "policy"]);
  });
});

describe("a conversation", () => {
  const profile = profileFor(nano, "compact");
  const line = nano.encodeRendered("bash<|arg|>ls<|end|>");

  test("asks for the profile's sampling, with a seed of its own for every turn", async () => {
    const upstream = scriptedUpstream([line, line]);
    const conversation = openConversation({ codec: nano, profile, upstream, ids: countingIds(), seed: 40 });
    const first = turnOf(await conversation.next([user("a")]));
    await conversation.next([user("a"), said(first), ...observed(first, "x")]);
    expect(upstream.requests.map((request) => request.seed)).toEqual([40, 41]);
    expect(upstream.requests[0]).toMatchObject({
      maxTokens: 60,
      temperature: 1,
      topP: 1,
      topK: -1,
      stop: nano.stopTokens,
    });
  });

  test("is full when a whole chunk no longer fits, and stays usable for less", async () => {
    const words = (count: number) => [user(Array.from({ length: count }, () => "cat").join(" "))];
    const open = (maxContextTokens: number) =>
      openConversation({
        codec: nano,
        profile: profileFor(nano, "compact", maxContextTokens),
        upstream: scriptedUpstream([line]),
        ids: countingIds(),
      });
    // 10 words and 9 spaces, 3 control tokens, and room for 60 tokens of the chunk.
    expect(await open(81).next(words(10))).toEqual({ type: "context-full" });
    expect(open(81).force(words(10), bash("ls"))).toEqual({ type: "context-full" });
    expect(await open(82).next(words(10))).toMatchObject({ tokens: line });
  });

  test("has not moved when sampling failed, so that it can be tried again", async () => {
    let failures = 1;
    const flaky: ScriptedTurn = () => {
      if (failures-- > 0) throw new Error("unreachable");
      return line;
    };
    const upstream = scriptedUpstream([flaky, flaky]);
    const conversation = openConversation({ codec: nano, profile, upstream, ids: countingIds() });
    await expect(conversation.next([user("a")])).rejects.toThrow("unreachable");
    expect(conversation.stats).toEqual({ turns: 0, forks: 0, contextTokens: 0, sampledTokens: 0 });
    const turn = turnOf(await conversation.next([user("a")]));
    expect(turn.forked).toBeUndefined();
    expect(upstream.requests[1]!.prompt).toEqual(upstream.requests[0]!.prompt);
  });

  test("passes an abort on", async () => {
    const conversation = openConversation({
      codec: nano,
      profile,
      upstream: scriptedUpstream([line]),
      ids: countingIds(),
    });
    await expect(conversation.next([user("a")], AbortSignal.abort())).rejects.toThrow(/abort/);
  });

  test("refuses a second chunk while it samples one", async () => {
    const upstream = scriptedUpstream([line, line]);
    const conversation = openConversation({ codec: nano, profile, upstream, ids: countingIds() });
    const first = conversation.next([user("a")]);
    await expect(conversation.next([user("a")])).rejects.toThrow(/still sampling/);
    await first;
  });

  test("refuses a profile that was made for another chat template", () => {
    const other = { ...profile, chatTemplate: "0".repeat(64) };
    expect(() =>
      openConversation({ codec: nano, profile: other, upstream: null, ids: countingIds() }),
    ).toThrow(/another chat template/);
  });

  test("counts what it did", async () => {
    const { conversation, turns } = await play(nano, profile, [line, line], ["x", "y"]);
    expect(conversation.stats).toEqual({
      turns: 2,
      forks: 0,
      contextTokens: turns.flatMap((turn) => turn.contextTokens).length,
      sampledTokens: turns.flatMap((turn) => turn.tokens).length,
    });
  });
});
