import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { seededRandom, seedOf } from "../src/index.ts";

describe("seeds of labels", () => {
  // Vectors of the FNV reference (Noll).
  it.each([
    ["", 0x811c9dc5],
    ["a", 0xe40c292c],
    ["foobar", 0xbf9cf968],
  ])("FNV-1a of %j", (label, seed) => expect(seedOf(label)).toBe(seed));
});

describe("seeded chance", () => {
  it("repeats itself for the same seed, and not for another", () => {
    const draw = (seed: number | string) => {
      const random = seededRandom(seed);
      return Array.from({ length: 20 }, () => random.next());
    };
    expect(draw("train/debug/17")).toEqual(draw("train/debug/17"));
    expect(draw("train/debug/17")).toEqual(draw(seedOf("train/debug/17")));
    expect(draw("train/debug/17")).not.toEqual(draw("train/debug/18"));
  });

  it("is uniform: no value of 20 is drawn far from its share (χ², 19 degrees of freedom, p > 1e-4)", () => {
    const random = seededRandom(3);
    const counts = new Array<number>(20).fill(0);
    const draws = 40_000;
    for (let i = 0; i < draws; i++) counts[random.int(20)]! += 1;
    const expected = draws / 20;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(chiSquare).toBeLessThan(52.4);
  });

  it("draws integers inside their bound and numbers in [0, 1)", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 2 ** 31 }), (seed, bound) => {
        const random = seededRandom(seed);
        const drawn = random.int(bound);
        const number = random.next();
        expect(Number.isInteger(drawn) && drawn >= 0 && drawn < bound).toBe(true);
        expect(number >= 0 && number < 1).toBe(true);
      }),
    );
  });

  it.each([0, -1, 1.5, Number.NaN])("refuses the bound %s", (bound) =>
    expect(() => seededRandom(1).int(bound)).toThrow(RangeError),
  );

  it("shuffles into a permutation and leaves the original alone", () => {
    fc.assert(
      fc.property(fc.array(fc.nat()), fc.integer(), (items, seed) => {
        const before = [...items];
        const shuffled = seededRandom(seed).shuffle(items);
        expect(items).toEqual(before);
        expect([...shuffled].sort((a, b) => a - b)).toEqual([...items].sort((a, b) => a - b));
      }),
    );
  });

  it("puts every item in every place when it shuffles", () => {
    const random = seededRandom(5);
    const seen = new Set<string>();
    for (let i = 0; i < 300; i++) seen.add(random.shuffle(["a", "b", "c"]).join(""));
    expect(seen.size).toBe(6);
  });

  it("samples distinct items, and refuses more than there are", () => {
    const random = seededRandom(1);
    expect(new Set(random.sample([1, 2, 3, 4, 5], 4)).size).toBe(4);
    expect(() => random.sample([1, 2], 3)).toThrow(RangeError);
    expect(["x", "y"]).toContain(random.pick(["x", "y"]));
  });
});
