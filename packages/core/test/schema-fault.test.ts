import { describe, expect, it } from "vitest";
import { z } from "zod";
import { schemaFault } from "../src/index.ts";

const Thing = z.strictObject({
  seq: z.number().int().nonnegative(),
  kind: z.enum(["a", "b"]),
  hash: z.string().regex(/^[0-9a-f]{4}$/),
  parts: z.array(z.object({ name: z.string() })),
  either: z.union([z.string(), z.number()]),
});
const SOUND = { seq: 1, kind: "a", hash: "00ff", parts: [{ name: "x" }], either: 1 };

describe("what does not fit a schema", () => {
  it.each([
    [{ ...SOUND, seq: undefined }, '"seq" is missing'],
    [{ ...SOUND, seq: "1" }, '"seq" is a text, not a number'],
    [{ ...SOUND, seq: -1 }, '"seq": too small: expected number to be >=0'],
    [{ ...SOUND, kind: "c" }, '"kind" is "c", not "a" or "b"'],
    [{ ...SOUND, hash: "x".repeat(60) }, `"hash" has not the form that it must have: "${"x".repeat(39)}…`],
    [{ ...SOUND, parts: [{ name: null }] }, '"parts.0.name" is null, not a text'],
    [{ ...SOUND, either: [] }, '"either" fits none of the forms that it may have: a list'],
    [{ ...SOUND, more: 1 }, 'it has what it cannot have: "more"'],
    [[], "it is a list, not an object"],
    [{}, '"seq" is missing; "kind" is missing; "hash" is missing; and 2 more'],
  ])("of %j is said in words", (value, said) => {
    const parsed = Thing.safeParse(value);
    expect(parsed.success ? "" : schemaFault(parsed.error, value)).toBe(said);
  });
});
