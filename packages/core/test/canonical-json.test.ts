import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalJson, digestOf, sha256 } from "../src/index.ts";

describe("canonical JSON", () => {
  it("prints values as the example of RFC 8785, section 3.2.2", () => {
    const value = {
      // biome-ignore lint/correctness/noPrecisionLoss: the RFC's own numbers
      numbers: [333333333.33333329, 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
      string: "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"/",
      literals: [null, true, false],
    };
    expect(canonicalJson(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  it("sorts keys by UTF-16 code units, as the example of section 3.2.3", () => {
    const keys = ["\u20ac", "\r", "\ufb33", "1", "\ud83d\ude00", "\u0080", "\u00f6"];
    const sorted = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\ud83d\ude00", "\ufb33"];
    const text = canonicalJson(Object.fromEntries(keys.map((key) => [key, 0])));
    expect(text).toBe(`{${sorted.map((key) => `${JSON.stringify(key)}:0`).join(",")}}`);
  });

  it("does not depend on the order in which keys were set", () => {
    const shuffledCopy = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(shuffledCopy);
      if (typeof value !== "object" || value === null) return value;
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, member]) => [key, shuffledCopy(member)]),
      );
    };
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(canonicalJson(shuffledCopy(value))).toBe(canonicalJson(value));
      }),
    );
  });

  it("means the same value, and is its own canonical form", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = canonicalJson(value);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
        expect(canonicalJson(JSON.parse(text))).toBe(text);
      }),
    );
  });

  it("tells different values apart", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(canonicalJson(a) === canonicalJson(b)).toBe(
          JSON.stringify(JSON.parse(canonicalJson(a))) === JSON.stringify(JSON.parse(canonicalJson(b))),
        );
      }),
    );
  });

  it("leaves undefined members out and keeps the places of an array", () =>
    expect(canonicalJson({ b: undefined, a: [1, undefined] })).toBe('{"a":[1,null]}'));

  it.each([Number.NaN, Number.POSITIVE_INFINITY, undefined, () => 1, 1n, Symbol("x")])(
    "refuses %s",
    (value) => expect(() => canonicalJson(value)).toThrow(TypeError),
  );
});

describe("digests", () => {
  it("are SHA-256 (FIPS 180-2, appendix B.1)", () =>
    expect(sha256("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));

  it("of a value are those of its canonical text", () =>
    expect(digestOf({ b: 1, a: "é" })).toBe(sha256(new TextEncoder().encode('{"a":"é","b":1}'))));
});
