import { describe, expect, it } from "vitest";
import { compileField, type Scalar } from "../../src/sigma/field.ts";
import { MAX_TEXT_CHARS } from "../../src/sigma/pattern.ts";

function matches(key: string, value: Scalar | readonly Scalar[], record: object): boolean {
  const made = compileField(key, value);
  if (!made.ok) throw new Error(made.message);
  return made.test(record);
}

describe("a field of a selection", () => {
  it.each<[string, Scalar | Scalar[], object, boolean]>([
    ["kind", "net.deny", { kind: "NET.DENY" }, true],
    ["kind|cased", "net.deny", { kind: "NET.DENY" }, false],
    ["net.port", 22, { net: { port: 22 } }, true],
    ["net.port", [22, 23], { net: { port: 23 } }, true],
    ["net.port", 22, {}, false],
    ["net.port", null, {}, true],
    ["net.port|gte", 22, { net: { port: 22 } }, true],
    ["net.port|gt", 22, { net: { port: 22 } }, false],
    ["net.port|lt", 22, { net: { port: "21" } }, false],
    ["a|contains", "ssh", { a: "openSSH" }, true],
    ["a|startswith", "open", { a: "openssh" }, true],
    ["a|endswith", ["/nc", "/ncat"], { a: "/usr/bin/ncat" }, true],
    ["a|contains|all", ["x", "y"], { a: "y and x" }, true],
    ["a|contains|all", ["x", "y"], { a: "x" }, false],
    ["a", "*.test", { a: "evil.test" }, true],
    ["a", "e?il.test", { a: "evil.test" }, true],
    ["a", "*.test", { a: "evil.test.org" }, false],
    ["a", "what\\?", { a: "what?" }, true],
    ["a", "what\\?", { a: "whatx" }, false],
    ["a|re", "^b+$", { a: "bbb" }, true],
    ["a|re", "^b+$", { a: "BBB" }, false],
    ["a|re|i", "^b+$", { a: "BBB" }, true],
    ["a|re", "^a.c$", { a: "a\nc" }, false],
    ["a", "a*c", { a: "a\nc" }, true],
    ["a", "*", {}, false],
    ["a|exists", true, { a: 0 }, true],
    ["a|exists", false, { a: null }, true],
    ["a|fieldref", "b", { a: 1, b: 1 }, true],
    ["a|fieldref", "b", { a: 1, b: 2 }, false],
    ["tags", "x", { tags: ["w", "x"] }, true],
    ["tags|contains|all", ["a", "b"], { tags: ["1a", "2b"] }, true],
    ["constructor", "Object", {}, false],
    ["__proto__.x", null, {}, true],
  ])("%s: %j on %j is %s", (key, value, record, expected) => {
    expect(matches(key, value, record)).toBe(expected);
  });

  it.each<[string, Scalar | Scalar[], string]>([
    ["a|contain", "x", 'unknown modifier "contain"'],
    ["|contains", "x", "names no field"],
    ["a", [], "an empty list"],
    ["a|re", "(", "missing closing )"],
    ["a|re", "a(?!b)", "ahead or behind"],
    ["a|re", "(?<=a)b", "ahead or behind"],
    ["a|re", "(a)\\1", "refers back to a group"],
    ["a|re", "a++", "possessive"],
    ["a|re", "\\u00e9", "\\x{00e9}"],
    ["a|re", "((a{100}){100}){100}", "invalid repeat count"],
    ["a|gt", "x", "gt takes a number"],
    ["a|exists", "yes", "takes true or false"],
    ["a|cidr", "10.0.0.0/33", "is not a network"],
    ["a|cidr", "ten/8", "is not a network"],
  ])("%s: %j is refused", (key, value, message) => {
    expect(compileField(key, value)).toMatchObject({ ok: false, message: expect.stringContaining(message) });
  });
});

/** Texts on which engines that go back over them take a time that is exponential, or squared, in the length. */
describe("the time of a match", () => {
  it.each<[string, string, string]>([
    ["a|re", "^(a+)+$", `${"a".repeat(100_000)}!`],
    ["a|re", "(a|aa)+$", `${"a".repeat(100_000)}!`],
    ["a|re", "(?:a|b|ab)*c", "ab".repeat(50_000)],
    ["a|re", "\\bpush\\b.*--force", "push ".repeat(20_000)],
    ["a|re", "\\s+$", `${" ".repeat(100_000)}x`],
    ["a|contains", "*a*a*a*a*a*b", "a".repeat(100_000)],
    ["a|endswith", "a?a?a?a?a*b", "a".repeat(100_000)],
  ])("grows with the text alone: %s: %s", (key, value, text) => {
    const start = process.cpuUsage();
    expect(matches(key, value, { a: text })).toBe(false);
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1e6).toBeLessThan(1);
  });

  it("is bounded: of a text beyond the limit both ends are looked at", () => {
    const far = "-".repeat(MAX_TEXT_CHARS);
    expect(matches("a|re", "^begin.*$", { a: `begin${far}` })).toBe(false);
    expect(matches("a|re", "(?s)^begin.*end$", { a: `begin${far}end` })).toBe(true);
    expect(matches("a|re", "middle", { a: `${far}middle${far}` })).toBe(false);
    expect(matches("a|contains", "middle", { a: `${far}middle${far}` })).toBe(true);
  });
});

describe("a network", () => {
  it.each([
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["0.0.0.0/0", "255.255.255.255", true],
    ["10.0.0.5", "10.0.0.5", true],
    ["10.0.0.0/8", "::ffff:10.1.2.3", true],
    ["fc00::/7", "fd00:ec2::254", true],
    ["fc00::/7", "2001:db8::1", false],
    ["::/0", "10.0.0.1", false],
    ["10.0.0.0/8", "10.0.0.256", false],
    ["10.0.0.0/8", "not an address", false],
  ])("%s has %s: %s", (network, address, expected) => {
    expect(matches("ip|cidr", network, { ip: address })).toBe(expected);
  });
});
