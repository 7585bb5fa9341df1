import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isWithin, parseIp, parseNetwork } from "../src/ip-address.ts";

describe("an address", () => {
  it("is its bits, for every IPv4 address", () => {
    fc.assert(
      fc.property(fc.ipV4(), (text) => {
        const bits = text.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
        expect(parseIp(text)).toEqual({ v6: false, bits: BigInt(bits) });
      }),
    );
  });

  it("is read in every form of IPv6", () => {
    fc.assert(fc.property(fc.ipV6(), (text) => parseIp(text) !== undefined));
  });

  it.each([
    ["::1", 1n],
    ["::", 0n],
    ["1::", 1n << 112n],
    ["::ffff:0:0:1", (0xffffn << 48n) | 1n],
    ["64:ff9b::10.0.0.1", (0x64n << 112n) | (0xff9bn << 96n) | 0x0a000001n],
  ])("%s is %d", (text, bits) => {
    expect(parseIp(text)).toEqual({ v6: true, bits });
  });

  it("within IPv6 is the IPv4 address", () => {
    expect(parseIp("::ffff:10.0.0.1")).toEqual(parseIp("10.0.0.1"));
    expect(parseIp("::ffff:a00:1")).toEqual(parseIp("10.0.0.1"));
  });

  it.each([
    "",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.256",
    "1:2",
    ":::",
    "1::2::3",
    "12345::",
    "fe80::1%eth0",
    "host",
    "1.2.3.4:80",
    "::1.2.3",
  ])("%j is none", (text) => {
    expect(parseIp(text)).toBeUndefined();
  });
});

describe("a network", () => {
  it.each([
    ["10.0.0.0/8", "10.255.255.255", true],
    ["10.0.0.0/8", "11.0.0.0", false],
    ["0.0.0.0/0", "255.255.255.255", true],
    ["10.0.0.5", "10.0.0.5", true],
    ["10.0.0.5/32", "10.0.0.6", false],
    ["fc00::/7", "fdff::1", true],
    ["::/0", "10.0.0.1", false],
  ])("%s has %s: %s", (network, address, expected) => {
    expect(isWithin(parseIp(address)!, parseNetwork(network)!)).toBe(expected);
  });

  it("holds an address iff they agree up to the prefix", () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.ipV4(), fc.integer({ min: 0, max: 32 }), (a, b, prefix) => {
        const cut = (text: string): bigint => parseIp(text)!.bits >> BigInt(32 - prefix);
        expect(isWithin(parseIp(a)!, parseNetwork(`${b}/${prefix}`)!)).toBe(cut(a) === cut(b));
      }),
    );
  });

  it("may be asked to have no bits beyond its prefix", () => {
    expect(parseNetwork("10.0.0.1/8", { strict: true })).toBeUndefined();
    expect(parseNetwork("10.0.0.0/8", { strict: true })).toBeDefined();
  });

  it.each(["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "::/129", "all"])(
    "%j is none",
    (text) => {
      expect(parseNetwork(text)).toBeUndefined();
    },
  );
});
