import { readFileSync } from "node:fs";
import type { ContextProfile } from "@ale/core";
import { TOOLS } from "./tools/toolbox.ts";

/** The profiles that come with the agent. Everything a model sees is decided here; a changed value is another profile. */

const promptText = (name: string): string =>
  readFileSync(new URL(`./prompts/${name}.md`, import.meta.url), "utf8").trimEnd();

/**
 * For models of about a million parameters that live on a context of a few hundred tokens: no system prompt, tool calls
 * without JSON. `chatTemplate` is the SHA-256 of the model's chat template.
 */
export function nanoProfile(chatTemplate: string): ContextProfile {
  return {
    schema: "ale/profile@1",
    name: "nano",
    systemPrompt: "",
    tools: TOOLS.map((tool) => tool.schema),
    toolFormat: "compact",
    chatTemplate,
    truncation: { headChars: 160, tailChars: 80 },
    sampling: { temperature: 1, topP: 1, topK: -1, maxTokensPerChunk: 40 },
    limits: { maxChunks: 20, maxContextTokens: 480, maxMalformed: 2 },
  };
}

/** For models that were taught tool use, with the Hermes format that Qwen3's template writes. */
export function standardProfile(chatTemplate: string): ContextProfile {
  return {
    schema: "ale/profile@1",
    name: "standard",
    systemPrompt: promptText("standard-system"),
    tools: TOOLS.map((tool) => tool.schema),
    toolFormat: "hermes",
    chatTemplate,
    truncation: { headChars: 6_000, tailChars: 4_000 },
    sampling: { temperature: 1, topP: 1, topK: -1, maxTokensPerChunk: 4_096 },
    limits: { maxChunks: 100, maxContextTokens: 32_768, maxMalformed: 3 },
  };
}
