import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { loadCodec, NANO_CONTROL_TOKENS, nanoTokenizer, writeNanoTokenizer } from "../src/index.ts";
import { NANO_WORDS, nanoCodec } from "./support.ts";

const codec = nanoCodec();

describe("the nano tokenizer", () => {
  test("gives one token to a word of its list, wherever it stands", () => {
    expect(codec.encode("cat moss | grep fix").map((id) => codec.decode([id]))).toEqual([
      "cat",
      " ",
      "moss",
      " | ",
      "grep",
      " ",
      "fix",
    ]);
  });

  test("falls back to bytes for words it does not have", () => {
    expect(codec.encode("catx")).toHaveLength(4);
    expect(codec.encode("é")).toHaveLength(2);
  });

  test("gives every digit its own token", () => {
    expect(codec.encode("2048").map((id) => codec.decode([id]))).toEqual(["2", "0", "4", "8"]);
  });

  test("brings back every text unchanged", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(codec.decode(codec.encode(text))).toBe(text);
      }),
    );
  });

  test("is the same for the same words, in any order and however often", () => {
    const again = nanoTokenizer([...NANO_WORDS, ...NANO_WORDS].reverse());
    expect(JSON.stringify(again)).toBe(JSON.stringify(nanoTokenizer(NANO_WORDS)));
  });

  test("numbers its tokens without a gap: control tokens, bytes, words", () => {
    const multiByte = NANO_WORDS.filter((word) => word.length > 1);
    expect(codec.vocabSize).toBe(NANO_CONTROL_TOKENS.length + 256 + multiByte.length);
    expect(NANO_CONTROL_TOKENS.map((token) => codec.controlToken(token))).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("refuses a word that no text could ever use", () => {
    expect(() => nanoTokenizer(["cat moss"])).toThrow(/more than one piece/);
    expect(() => nanoTokenizer([""])).toThrow(/more than one piece/);
    expect(() => nanoTokenizer(["123"])).toThrow(/more than one piece/);
  });

  test("is read back from its files", async () => {
    const directory = await mkdtemp(join(tmpdir(), "nano-tokenizer-"));
    try {
      await writeNanoTokenizer(directory, NANO_WORDS);
      const first = await readFile(join(directory, "tokenizer.json"), "utf8");
      const loaded = await loadCodec(directory);
      await writeNanoTokenizer(directory, NANO_WORDS);
      expect(await readFile(join(directory, "tokenizer.json"), "utf8")).toBe(first);
      expect(loaded.chatTemplateSha256).toBe(codec.chatTemplateSha256);
      expect(loaded.stopTokens).toEqual([codec.controlToken("<|end|>")]);
      expect(loaded.padToken).toBe(codec.controlToken("<|pad|>"));
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
