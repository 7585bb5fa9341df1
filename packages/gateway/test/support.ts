import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ContextFull, ContextProfile, Ids, Message, ToolSchema, Turn } from "@ale/core";
import { type Codec, codecFrom, nanoTokenizer } from "../src/index.ts";

export const NANO_WORDS = [
  "bash",
  "cat",
  "grep",
  "submit",
  "edit",
  "fix",
  "moss",
  "exit",
  " ",
  " | ",
  "> ",
  "/",
  ".",
];

export function nanoCodec(): Codec {
  const { tokenizer, config } = nanoTokenizer(NANO_WORDS);
  return codecFrom({ tokenizer, config });
}

export function toolSchema(
  name: string,
  required: readonly string[],
  optional: Record<string, string> = {},
): ToolSchema {
  const properties = Object.fromEntries([
    ...required.map((key) => [key, { type: "string" }]),
    ...Object.entries(optional).map(([key, type]) => [key, { type }]),
  ]);
  return {
    name,
    description: `${name} it`,
    parameters: { type: "object", properties, required: [...required] },
  };
}

export const TOOLS = [
  toolSchema("bash", ["command"]),
  toolSchema("edit", ["path", "old", "new"]),
  toolSchema("list", [], { all: "boolean", depth: "integer" }),
  toolSchema("submit", []),
];

export function profileFor(
  codec: Codec,
  toolFormat: ContextProfile["toolFormat"],
  maxContextTokens = 4000,
): ContextProfile {
  return {
    schema: "ale/profile@1",
    name: `test-${toolFormat}`,
    systemPrompt: "",
    tools: TOOLS,
    toolFormat,
    chatTemplate: codec.chatTemplateSha256,
    truncation: { headChars: 400, tailChars: 200 },
    sampling: { temperature: 1, topP: 1, topK: -1, maxTokensPerChunk: 60 },
    limits: { maxChunks: 20, maxContextTokens, maxMalformed: 2 },
  };
}

export function countingIds(): Ids {
  let count = 0;
  return { next: (prefix) => `${prefix}_${count++}` };
}

const QWEN_LIKE = join(import.meta.dirname, "fixtures", "qwen-like");

/** A small tokenizer and template of Qwen3's structure; `rewrite` changes the template's text. */
export async function qwenLikeCodec(
  rewrite: (template: string) => string = (template) => template,
): Promise<Codec> {
  const read = async (name: string): Promise<string> => readFile(join(QWEN_LIKE, name), "utf8");
  return codecFrom({
    tokenizer: JSON.parse(await read("tokenizer.json")),
    config: JSON.parse(await read("tokenizer_config.json")),
    generationConfig: JSON.parse(await read("generation_config.json")),
    chatTemplate: rewrite(await read("chat_template.jinja")),
  });
}

/** The assistant message that a turn leaves in the context. */
export const said = (turn: Turn): Message => ({
  role: "assistant",
  content: turn.text,
  toolCalls: [...turn.toolCalls],
});

/** What the tools answered, one message a call; for a malformed turn, the error. */
export const observed = (turn: Turn, content: string): Message[] =>
  turn.toolCalls.length === 0
    ? [{ role: "tool", callId: "none", name: "error", content }]
    : turn.toolCalls.map((call) => ({ role: "tool", callId: call.id, name: call.name, content }));

export function turnOf(turn: Turn | ContextFull): Turn {
  if ("type" in turn) throw new Error("the context is full");
  return turn;
}
