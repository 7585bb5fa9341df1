import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { truncate } from "../src/index.ts";

const limits = fc.record({
  headChars: fc.integer({ min: 1, max: 40 }),
  tailChars: fc.integer({ min: 0, max: 40 }),
});
const text = fc.string({ unit: "grapheme", maxLength: 300 });

describe("a truncated observation", () => {
  test("keeps head and tail, and says how many characters went", () => {
    expect(
      truncate("a".repeat(50) + "b".repeat(900) + "c".repeat(50), { headChars: 50, tailChars: 50 }),
    ).toBe(`${"a".repeat(50)}\n[900 characters cut]\n${"c".repeat(50)}`);
    expect(truncate("x".repeat(100), { headChars: 10, tailChars: 0 })).toBe(
      `${"x".repeat(10)}\n[90 characters cut]\n`,
    );
  });

  test("is the text itself when that is short enough", () => {
    fc.assert(
      fc.property(text, limits, (whole, cut) => {
        fc.pre(whole.length <= cut.headChars + cut.tailChars);
        expect(truncate(whole, cut)).toBe(whole);
      }),
    );
  });

  test("is never longer than the text, begins and ends as it does, and accounts for every character", () => {
    fc.assert(
      fc.property(text, limits, (whole, cut) => {
        const shown = truncate(whole, cut);
        expect(shown.length).toBeLessThanOrEqual(whole.length);
        if (shown === whole) return;
        const mark = /\n\[(\d+) characters cut\]\n/.exec(shown)!;
        const head = shown.slice(0, mark.index);
        const tail = shown.slice(mark.index + mark[0].length);
        expect(whole.startsWith(head) && whole.endsWith(tail)).toBe(true);
        expect(head.length + Number(mark[1]) + tail.length).toBe(whole.length);
        expect(head.length).toBeLessThanOrEqual(cut.headChars);
        expect(tail.length).toBeLessThanOrEqual(cut.tailChars);
      }),
    );
  });

  test("never ends or begins in half a character", () => {
    fc.assert(
      fc.property(limits, fc.nat({ max: 3 }), (cut, shift) => {
        expect(truncate(`${"a".repeat(shift)}${"😀".repeat(100)}`, cut).isWellFormed()).toBe(true);
      }),
    );
  });
});
