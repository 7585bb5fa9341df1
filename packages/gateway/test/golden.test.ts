import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Message, ToolSchema } from "@ale/core";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { Codec } from "../src/index.ts";
import { nanoCodec, qwenLikeCodec } from "./support.ts";

/**
 * The Python libraries of Hugging Face are what trains and serves models elsewhere, so they decide what is right. Their answers are
 * in fixtures/golden.json, written by fixtures/make_golden.py.
 */
const Vectors = z.object({
  texts: z.array(z.object({ text: z.string(), ids: z.array(z.number()) })),
  chats: z.array(z.object({ messages: z.array(Message), text: z.string(), ids: z.array(z.number()) })),
});
const golden = z
  .object({ tools: z.array(ToolSchema), nano: Vectors, qwenLike: Vectors })
  .parse(JSON.parse(readFileSync(join(import.meta.dirname, "fixtures/golden.json"), "utf8")));

const unchanged = (text: string): string => text;
/** Qwen's tokenizers compose characters before they encode. */
const composed = (text: string): string => text.normalize("NFC");

const cases: readonly [string, () => Promise<Codec>, typeof unchanged, z.infer<typeof Vectors>][] = [
  ["nano", async () => nanoCodec(), unchanged, golden.nano],
  ["a Qwen-like model", () => qwenLikeCodec(), composed, golden.qwenLike],
];

describe.each(cases)("the codec of %s agrees with Python", (_, open, normalized, vectors) => {
  test.each(vectors.texts)("on the tokens of $text", async ({ text, ids }) => {
    const codec = await open();
    expect(codec.encode(text)).toEqual(ids);
    expect(codec.decode(ids)).toBe(normalized(text));
  });

  test.each(vectors.chats.map((chat, i) => ({ ...chat, name: `conversation ${i}` })))(
    "on the prompt of $name",
    async ({ messages, text, ids }) => {
      const codec = await open();
      const rendered = codec.render(messages, golden.tools, { addGenerationPrompt: true });
      expect(codec.reveal(rendered)).toBe(text);
      expect(codec.encodeRendered(rendered)).toEqual(ids);
    },
  );
});
