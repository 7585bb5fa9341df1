import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { endAtCharacter, render, startAtCharacter } from "../src/inside/output.ts";

const captured = (head: string | Buffer, tail: string | Buffer = "", total?: number) => {
  const [first, last] = [Buffer.from(head), Buffer.from(tail)];
  return { head: first, tail: last, total: total ?? first.length + last.length };
};

/** What PID 1 keeps of a stream: the first half of the limit, and the last. */
const capture = (bytes: Buffer, limit: number) => {
  const half = limit >> 1;
  const rest = bytes.subarray(half);
  return captured(
    bytes.subarray(0, half),
    rest.subarray(Math.max(0, rest.length - (limit - half))),
    bytes.length,
  );
};

describe("kept output", () => {
  test("is joined without a seam where nothing is missing", () => {
    expect(render(captured("he", "llo"), 5)).toEqual({ text: "hello", truncated: false });
    expect(render(captured(Buffer.from("é").subarray(0, 1), Buffer.from("é").subarray(1)), 5)).toEqual({
      text: "é",
      truncated: false,
    });
  });

  test("says in the middle how much is missing", () => {
    const { text, truncated } = render(capture(Buffer.from("a".repeat(500) + "b".repeat(500)), 100), 100);
    expect(truncated).toBe(true);
    expect(text).toMatch(/^a+\n\[\.\.\. \d+ bytes left out \.\.\.\]\nb+$/);
    const kept = text.replace(/\n.*\n/, "").length;
    expect(text).toContain(`${1000 - kept} bytes`);
  });

  test("never exceeds the limit, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.integer({ min: 1, max: 300 }), (data, limit) => {
        const { text, truncated } = render(capture(Buffer.from(data), limit), limit);
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(limit);
        if (data.length > limit) expect(truncated).toBe(true);
      }),
    );
  });

  test("never takes a character apart", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme", maxLength: 200 }),
        fc.integer({ min: 60, max: 120 }),
        (data, limit) => {
          const { text } = render(capture(Buffer.from(data), limit), limit);
          if (!data.includes("\ufffd")) expect(text).not.toContain("\ufffd");
        },
      ),
    );
  });

  test("keeps bytes that are no text as replacement characters", () => {
    expect(render(captured(Buffer.from([0x61, 0xff, 0x62])), 10).text).toBe("a\ufffdb");
    expect(endAtCharacter(Buffer.from([0x61, 0xe2, 0x82]))).toEqual(Buffer.from([0x61]));
    expect(startAtCharacter(Buffer.from([0x82, 0xac, 0x61]))).toEqual(Buffer.from([0x61]));
  });
});
