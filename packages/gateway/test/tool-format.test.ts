import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Action, malformed, toolFormat } from "../src/index.ts";
import { nanoCodec, qwenLikeCodec, TOOLS } from "./support.ts";

const nano = nanoCodec();
const compact = toolFormat("compact", nano, TOOLS);
const end = nano.stopTokens[0]!;
const bash = (command: string): Action => ({ name: "bash", arguments: { command } });

/** Tokens of text in which control tokens are written as text. */
const nanoTokens = (text: string): number[] => nano.encodeRendered(text);

describe("the compact format", () => {
  test("is the tool's name and its values, set apart by a token", () => {
    expect(compact.write({ name: "edit", arguments: { new: "c", old: "b", path: "a" } })).toBe(
      "edit<|arg|>a<|arg|>b<|arg|>c",
    );
    expect(compact.encode(bash("cat moss"))).toEqual(nanoTokens("bash<|arg|>cat moss"));
  });

  test("reads back every call that it writes, whatever the values hold", () => {
    const value = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.constantFrom("<|arg|>", "<|end|>", "a<|end|>b", "\n", "\uFFFC"),
    );
    fc.assert(
      fc.property(value, value, value, (path, old, replacement) => {
        const action = { name: "edit", arguments: { path, old, new: replacement } };
        expect(compact.parse([...compact.encode(action), end])).toEqual({
          text: "",
          actions: [action],
        });
      }),
    );
  });

  test("reads values by the type of the schema", () => {
    const action = { name: "list", arguments: { all: true, depth: 3 } };
    expect(compact.parse([...compact.encode(action), end]).actions).toEqual([action]);
    expect(compact.parse(nanoTokens("list<|end|>")).actions).toEqual([{ name: "list", arguments: {} }]);
  });

  test.each([
    ["bash<|arg|>cat", malformed.cutOff],
    ["<|end|>", malformed.unknownTool],
    ["bash <|arg|>cat<|end|>", malformed.unknownTool],
    ["Bash<|arg|>cat<|end|>", malformed.unknownTool],
    ["bash<|end|>", malformed.missingValue("command")],
    ["edit<|arg|>a<|arg|>b<|end|>", malformed.missingValue("new")],
    ["bash<|arg|>cat<|arg|>moss<|end|>", malformed.tooManyValues],
    ["submit<|arg|><|end|>", malformed.tooManyValues],
    ["bash<|arg|>cat<|obs|>moss<|end|>", malformed.controlToken],
    ["<|act|>bash<|arg|>cat<|end|>", malformed.controlToken],
    ["bash<|end|><|arg|>cat<|end|>", malformed.controlToken],
    ["list<|arg|>yes<|end|>", malformed.badValue("all", "boolean")],
    ["list<|arg|>true<|arg|>1.5<|end|>", malformed.badValue("depth", "integer")],
  ])("refuses %s", (text, reason) => {
    const raw = text.replace(/<\|end\|>$/, "");
    expect(compact.parse(nanoTokens(text))).toEqual({ text: raw, actions: [], malformed: reason });
  });

  test("refuses a value whose bytes are not text", () => {
    const brokenByte = nano.encode("é")[0]!;
    const tokens = [...nanoTokens("bash<|arg|>"), brokenByte, end];
    expect(compact.parse(tokens).malformed).toBe(malformed.notText);
  });

  test("needs a tokenizer with its separator", async () => {
    const qwen = await qwenLikeCodec();
    expect(() => toolFormat("compact", qwen, TOOLS)).toThrow(/no <\|arg\|> token/);
  });
});

describe("the hermes format", async () => {
  const qwen = await qwenLikeCodec();
  const hermes = toolFormat("hermes", qwen, TOOLS);
  const parse = (text: string) => hermes.parse(qwen.encodeRendered(text));
  const call = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>';

  test("is JSON in tags, with the spaces that the template's tojson puts", () => {
    expect(hermes.write(bash("ls"))).toBe(call);
    const message = { role: "assistant" as const, content: "", toolCalls: [{ id: "1", ...bash("ls") }] };
    const rendered = qwen.render([{ role: "user", content: "x" }, message], TOOLS, {
      addGenerationPrompt: false,
    });
    expect(rendered.endsWith(`${call}<|im_end|>\n`)).toBe(true);
  });

  test("reads back every call that it writes, also one that spells its own tags", () => {
    const value = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.constantFrom("</tool_call>", "<tool_call>\n{}", "<|im_end|>"),
    );
    fc.assert(
      fc.property(value, (text) => {
        const action = bash(text.normalize("NFC"));
        expect(hermes.parse([...hermes.encode(action), qwen.stopTokens[0]!])).toEqual({
          text: "",
          actions: [action],
        });
      }),
    );
  });

  test("takes several calls in order, with text before the first", () => {
    expect(
      parse(`I look.\n${call}\n<tool_call>\n{"name":"submit","arguments":{}}\n</tool_call><|im_end|>`),
    ).toEqual({
      text: "I look.",
      actions: [bash("ls"), { name: "submit", arguments: {} }],
    });
  });

  test("does not take a call out of the reasoning", () => {
    expect(parse(`<think>\n${call}\n</think>\n\nno<|im_end|>`).malformed).toBe(malformed.noCall);
    expect(parse(`<think>\n${call}\n</think>\n\n${call}<|im_end|>`)).toEqual({
      text: `<think>\n${call}\n</think>\n`,
      actions: [bash("ls")],
    });
  });

  test.each([
    ["just text<|im_end|>", malformed.noCall],
    ["<|im_end|>", malformed.noCall],
    [`${call} and more<|im_end|>`, malformed.textAfterCall],
    ['<tool_call>\n{"name": "bash", "arguments": {}}<|im_end|>', malformed.unclosedCall],
    ["<tool_call>\n{'name': 'bash'}\n</tool_call><|im_end|>", malformed.badJson],
    [
      '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}\n</tool_call><|im_end|>',
      malformed.badJson,
    ],
    ['<tool_call>\n{"name": "bash", "arguments": "ls"}\n</tool_call><|im_end|>', malformed.badCall],
    ['<tool_call>\n{"arguments": {}}\n</tool_call><|im_end|>', malformed.badCall],
    ["<tool_call>\n[]\n</tool_call><|im_end|>", malformed.badCall],
  ])("refuses %s", (text, reason) => {
    expect(parse(text)).toEqual({
      text: text.slice(0, -"<|im_end|>".length),
      actions: [],
      malformed: reason,
    });
  });

  test("refuses a whole call in a chunk that was cut off after it", () => {
    expect(parse(call)).toEqual({ text: call, actions: [], malformed: malformed.cutOff });
  });
});

test("the reasons that a model reads are these", () => {
  expect(
    Object.values(malformed).map((text) => (typeof text === "string" ? text : text("path", "string"))),
  ).toEqual([
    "no end",
    "no tool call",
    "unknown tool",
    "no value for path",
    "too many values",
    "path is not string",
    "control token in a value",
    "not text",
    "no </tool_call>",
    "text after the tool call",
    "the tool call is not json",
    "the tool call needs a name and arguments",
  ]);
});
