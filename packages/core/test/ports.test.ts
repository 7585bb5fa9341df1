import { describe, expect, it } from "vitest";
import { AleError, err, ok, systemClock, systemIds, ulid } from "../src/index.ts";

describe("identifiers", () => {
  it("carry the time in their first ten characters (the example of the ULID specification, in lower case)", () => {
    expect(ulid(1469918176385, new Uint8Array(16)).slice(0, 10)).toBe("01aryz6s41");
    expect(ulid(0, new Uint8Array(16))).toBe("0".repeat(26));
    expect(ulid(2 ** 48 - 1, new Uint8Array(16).fill(255))).toBe(`7${"z".repeat(25)}`);
  });

  it("sort by creation time", () => {
    const entropy = new Uint8Array(16).fill(31);
    expect(ulid(1000, entropy) < ulid(1001, new Uint8Array(16))).toBe(true);
  });

  it("have their prefix and do not repeat", () => {
    const ids = Array.from({ length: 1000 }, () => systemIds.next("ep"));
    expect(new Set(ids).size).toBe(1000);
    for (const id of ids) expect(id).toMatch(/^ep_[0-9a-hjkmnp-tv-z]{26}$/);
  });
});

describe("the clock of the system", () => {
  it("never goes backwards", () => {
    let last = systemClock.monotonicMs();
    for (let i = 0; i < 1000; i++) {
      const now = systemClock.monotonicMs();
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
    expect(Math.abs(systemClock.nowMs() - Date.now())).toBeLessThan(1000);
  });
});

describe("results", () => {
  it("are values", () => {
    expect(ok(1)).toEqual({ ok: true, value: 1 });
    expect(err("gone")).toEqual({ ok: false, error: "gone" });
  });

  it("that a person must act on say what to do next", () => {
    const cause = new Error("ENOENT");
    const error = new AleError("image-missing", "there is no image x", { next: "run ale doctor", cause });
    expect(error).toMatchObject({ name: "AleError", code: "image-missing", next: "run ale doctor", cause });
    expect(new AleError("x", "y")).not.toHaveProperty("cause");
  });
});
