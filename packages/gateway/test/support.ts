import type { ContextProfile, Ids, ToolSchema } from "@ale/core";
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
