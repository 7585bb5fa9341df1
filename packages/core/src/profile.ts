import { z } from "zod";
import { digestOf } from "./canonical-json.ts";
import { ToolSchema } from "./tool-call.ts";

/**
 * A context profile is everything that decides what the model sees, frozen. Training and deployment agree if and only if
 * their profile hashes agree.
 */
export const ContextProfile = z.object({
  schema: z.literal("ale/profile@1"),
  name: z.string(),
  /** Empty means no system message. Constant for the whole episode. */
  systemPrompt: z.string(),
  /** In this order, which the model sees. */
  tools: z.array(ToolSchema),
  /** How tool calls are written in text: `compact` (nano models) or `hermes` (Qwen3's JSON in <tool_call> tags). */
  toolFormat: z.enum(["compact", "hermes"]),
  /** SHA-256 of the chat template's text, so that a changed template is a changed profile. */
  chatTemplate: z.string(),
  /** Observations longer than this many characters are cut when they are written: first `head`, then `tail` characters. */
  truncation: z.object({ headChars: z.number().int().positive(), tailChars: z.number().int().nonnegative() }),
  sampling: z.object({
    temperature: z.number().positive(),
    topP: z.number().min(0).max(1),
    topK: z.number().int().min(-1),
    maxTokensPerChunk: z.number().int().positive(),
  }),
  limits: z.object({
    maxChunks: z.number().int().positive(),
    maxContextTokens: z.number().int().positive(),
    /** Consecutive chunks without a well-formed tool call after which the episode ends. */
    maxMalformed: z.number().int().positive(),
  }),
});
export type ContextProfile = z.infer<typeof ContextProfile>;

export const profileHash = (profile: ContextProfile): string => digestOf(ContextProfile.parse(profile));
