import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { controlText } from "../src/control-text.ts";

const TOKENS = ["<|end|>", "<|end|>x", "<think>", "##", "^", "日本"];
const text = controlText(TOKENS);

/** Pieces of tokens, whole tokens, and the escape character itself. */
const content = fc
  .array(
    fc.constantFrom(
      "<",
      "<|",
      "end",
      "|>",
      "<|end|>",
      "x",
      "#",
      "##",
      "^",
      "日",
      "本",
      "\uFDD0",
      "0023",
      "a",
    ),
    {
      maxLength: 8,
    },
  )
  .map((parts) => parts.join(""));

describe("protected content", () => {
  test("holds no control token, alone or joined to any other content", () => {
    fc.assert(
      fc.property(fc.array(content, { minLength: 1, maxLength: 4 }), (contents) => {
        const joined = contents.map(text.protect).join("");
        expect(text.split(joined).filter((segment) => segment.control)).toEqual([]);
        expect(text.reveal(joined)).toBe(contents.join(""));
      }),
      { numRuns: 1_000 },
    );
  });

  test("is cut out of a prompt unchanged, between the template's own tokens", () => {
    fc.assert(
      fc.property(content, (inner) => {
        fc.pre(inner !== "");
        expect(text.split(`<think>${text.protect(inner)}<|end|>`)).toEqual([
          { text: "<think>", control: true },
          { text: inner, control: false },
          { text: "<|end|>", control: true },
        ]);
      }),
    );
  });

  test("is the content itself when there is nothing to protect", () => {
    expect(text.protect("plain | text > file")).toBe("plain | text > file");
  });
});

describe("a rendered prompt", () => {
  test("is cut at the longest token that fits", () => {
    expect(text.split("<|end|>x").map((segment) => segment.text)).toEqual(["<|end|>x"]);
  });

  test("is one piece where there are no control tokens", () => {
    const none = controlText([]);
    expect(none.split(none.protect("<|end|>"))).toEqual([{ text: "<|end|>", control: false }]);
  });
});
