import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Condition, isMeant, mentionsOf, parseCondition } from "../../src/sigma/condition.ts";

const parsed = (text: string): Condition => {
  const result = parseCondition(text);
  if (!result.ok) throw new Error(result.message);
  return result.condition;
};
const name = (of: string): Condition => ({ type: "name", name: of });

describe("a condition", () => {
  it("binds not before and, and before or", () => {
    expect(parsed("a or not b and c")).toEqual({
      type: "or",
      of: [name("a"), { type: "and", of: [{ type: "not", of: name("b") }, name("c")] }],
    });
  });

  it("is grouped by parentheses", () => {
    expect(parsed("(a or b) and c")).toEqual({
      type: "and",
      of: [{ type: "or", of: [name("a"), name("b")] }, name("c")],
    });
  });

  it("counts selections by pattern", () => {
    expect(parsed("1 of sel_* and all of them")).toEqual({
      type: "and",
      of: [
        { type: "some", pattern: "sel_*" },
        { type: "all", pattern: "*" },
      ],
    });
  });

  it.each([
    ["a and", 5, "it ends where a selection should follow"],
    ["(a or b", 7, 'it ends where ")" should follow'],
    ["a b", 2, 'unexpected "b"'],
    ["a | count() > 5", 2, 'unexpected "|"'],
    ["or a", 0, 'a selection is missing before "or"'],
    ["()", 1, 'a selection is missing before ")"'],
  ])("%j is refused where it goes wrong", (text, at, message) => {
    expect(parseCondition(text)).toEqual({ ok: false, at, message });
  });

  it("refuses one that is longer than anybody writes, instead of running out of stack", () => {
    expect(parseCondition("(".repeat(10_000))).toMatchObject({ ok: false });
    expect(parseCondition("not ".repeat(10_000))).toMatchObject({ ok: false });
  });

  it("never throws, whatever it is given", () => {
    fc.assert(fc.property(fc.string(), (text) => typeof parseCondition(text).ok === "boolean"));
  });

  it("tells what it mentions", () => {
    expect(mentionsOf(parsed("a and not (1 of b* or c)")).length).toBe(3);
  });
});

describe("a pattern of selections", () => {
  it.each([
    ["*", "a", true],
    ["*", "_hidden", false],
    ["_h*", "_hidden", true],
    ["sel_*", "sel_1", true],
    ["sel_*", "other", false],
    ["a.b*", "axb", false],
  ])("%s and %s: %s", (pattern, selection, meant) => {
    expect(isMeant(pattern, selection)).toBe(meant);
  });
});
