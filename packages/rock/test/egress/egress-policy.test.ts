import { NetworkPolicy } from "@ale/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { tooWide } from "../../src/egress/breadth.ts";
import {
  covers,
  decideAddress,
  decideHost,
  decideName,
  decideUpstream,
  type EgressDecision,
} from "../../src/egress/egress-policy.ts";

const policy = NetworkPolicy.parse({
  mode: "allowlist",
  hosts: [{ name: "PyPI.test." }, { name: "*.files.test", ports: [443] }],
  addresses: [
    { network: "192.0.2.7", ports: [5432] },
    { network: "203.0.113.0/24", ports: [80] },
  ],
});
const word = (decision: EgressDecision): string => (decision.allowed ? "allowed" : decision.refusal);

describe("a name", () => {
  it.each([
    ["pypi.test", 443, "allowed"],
    ["pypi.test", 80, "allowed"],
    ["pypi.test", 22, "port"],
    ["a.b.files.test", 443, "allowed"],
    ["a.files.test", 80, "port"],
    ["files.test", 443, "name"],
    ["evilfiles.test", 443, "name"],
    ["pypi.test.evil.test", 443, "name"],
    ["metadata.google.internal", 80, "metadata"],
  ])("%s:%d is %s", (name, port, expected) => {
    expect(word(decideHost(policy, name, port))).toBe(expected);
  });

  it.each([
    "a b.files.test",
    "a\0.files.test",
    "a\r\n.files.test",
    "\xe9.files.test",
    ".files.test",
    "-.files.test",
  ])("that is none is not asked for outside, wildcard or not: %j", (name) => {
    expect(word(decideHost(policy, name, 443))).toBe("name");
    expect(word(decideName(NetworkPolicy.parse({ mode: "open" }), name))).toBe("name");
  });

  it("of the metadata service is reached only when it is named itself", () => {
    const wide = NetworkPolicy.parse({ mode: "allowlist", hosts: [{ name: "*.google.internal" }] });
    const literal = NetworkPolicy.parse({ mode: "allowlist", hosts: [{ name: "metadata.google.internal" }] });
    expect(word(decideName(wide, "metadata.google.internal"))).toBe("metadata");
    expect(word(decideName(literal, "metadata.google.internal."))).toBe("allowed");
    expect(word(decideName(NetworkPolicy.parse({ mode: "open" }), "metadata.google.internal"))).toBe(
      "metadata",
    );
  });

  it("is never covered by a rule for another one", () => {
    fc.assert(
      fc.property(fc.domain(), fc.domain(), (one, other) => {
        if (one !== other && !other.endsWith(`.${one}`))
          return !covers(one, other) && !covers(`*.${one}`, other);
        return true;
      }),
    );
  });
});

describe("an address", () => {
  it.each([
    ["192.0.2.7", 5432, "allowed"],
    ["192.0.2.7", 80, "port"],
    ["192.0.2.8", 5432, "default"],
    ["203.0.113.200", 80, "allowed"],
    ["10.0.0.5", 5432, "private"],
    ["::ffff:10.0.0.5", 5432, "private"],
    ["169.254.169.254", 80, "metadata"],
    ["fd00:ec2::254", 80, "metadata"],
    ["127.0.0.1", 80, "private"],
    ["100.90.0.3", 80, "sandbox"],
    ["ten", 80, "address"],
  ])("%s:%d is %s", (address, port, expected) => {
    expect(word(decideAddress(policy, address, port, ["100.90.0.0/16"]))).toBe(expected);
  });

  it.each(["0.0.0.0/0", "10.0.0.0/7", "160.0.0.0/3"])(
    "in private space is not reached by the wide %s",
    (network) => {
      const wide = NetworkPolicy.parse({ mode: "allowlist", addresses: [{ network, ports: [80] }] });
      expect(word(decideAddress(wide, "10.0.0.5", 80))).toBe("private");
      expect(word(decideAddress(wide, "169.254.169.254", 80))).toBe("metadata");
    },
  );

  it("in private space is reached when it is named", () => {
    const named = NetworkPolicy.parse({
      mode: "allowlist",
      addresses: [
        { network: "10.0.0.5", ports: [5432] },
        { network: "169.254.169.254", ports: [80] },
      ],
    });
    expect(word(decideAddress(named, "10.0.0.5", 5432))).toBe("allowed");
    expect(word(decideAddress(named, "10.0.0.6", 5432))).toBe("private");
    expect(word(decideAddress(named, "169.254.169.254", 80))).toBe("allowed");
  });

  it.each(["none", "gateway-only"] as const)("is not reached under %s", (mode) => {
    expect(word(decideAddress(NetworkPolicy.parse({ mode }), "192.0.2.7", 443))).toBe("default");
  });

  it("under open is reached unless it is private or another sandbox", () => {
    const open = NetworkPolicy.parse({ mode: "open" });
    expect(word(decideAddress(open, "192.0.2.7", 443))).toBe("allowed");
    expect(word(decideAddress(open, "10.0.0.5", 443))).toBe("private");
  });
});

describe("where an allowed name really leads", () => {
  it("is never a private address, whatever its name server says", () => {
    expect(word(decideUpstream(policy, "10.0.0.5", 443))).toBe("private");
    expect(word(decideUpstream(policy, "127.0.0.1", 443))).toBe("private");
    expect(word(decideUpstream(policy, "198.51.100.7", 443))).toBe("allowed");
  });
});

describe("an allowlist", () => {
  const of = (hosts: readonly string[], networks: readonly string[] = []) =>
    NetworkPolicy.parse({
      mode: "allowlist",
      hosts: hosts.map((name) => ({ name })),
      addresses: networks.map((network) => ({ network, ports: [443] })),
    });
  const quarters = ["0.0.0.0", "64.0.0.0", "128.0.0.0", "192.0.0.0"].map((base) => `${base}/2`);

  it.each([
    [of(["*.com"]), "*.com"],
    [of(["pypi.org", "*.co.uk"]), "*.co.uk"],
    [of(["*.github.io"]), "*.github.io"],
    [of(["*.xn--p1ai"]), "*.xn--p1ai"],
    [of(["*.anything.ck"]), "*.anything.ck"],
    [of(["*.unheard-of"]), "*.unheard-of"],
    [of([], ["0.0.0.0/0"]), "0.0.0.0/0"],
    [of([], ["::/0", "8.0.0.0/15"]), "8.0.0.0/15"],
    [of([], quarters), "0.0.0.0/2"],
    [
      of(
        [],
        Array.from({ length: 17 }, (_, i) => `8.${i}.0.0/16`),
      ),
      "8.16.0.0/16",
    ],
  ])("that is the open network under another name is none: %#", (policy, rule) => {
    expect(tooWide(policy)?.rule).toBe(rule);
  });

  it.each([
    [of(["com", "*.example.com", "*.example.co.uk", "me.github.io"])],
    [of([], ["8.8.0.0/16", "192.0.2.7"])],
    // Who may name private space is another question.
    [of([], ["10.0.0.0/8", "127.0.0.0/8"])],
    [NetworkPolicy.parse({ mode: "open" })],
  ])("that names what is needed is one: %#", (policy) => {
    expect(tooWide(policy)).toBeUndefined();
  });
});

describe("a policy that says something else than it means is refused", () => {
  it.each([
    [{ mode: "allowlist", hosts: [{ name: "https://pypi.test" }] }, "is no host name"],
    [{ mode: "allowlist", hosts: [{ name: "pypi.test:443" }] }, "is no host name"],
    [{ mode: "allowlist", hosts: [{ name: "*" }] }, "is no host name"],
    [{ mode: "allowlist", hosts: [{ name: "a.*.test" }] }, "is no host name"],
    [{ mode: "allowlist", hosts: [{ name: "10.0.0.5" }] }, 'put it into "addresses"'],
    [{ mode: "allowlist", addresses: [{ network: "10.0.0.1/8", ports: [1] }] }, "no bits beyond the prefix"],
    [{ mode: "allowlist", addresses: [{ network: "10.0.0.0/8" }] }, "expected array"],
    [{ mode: "allowlist", hosts: [{ name: "a.test", ports: [0] }] }, "0 is no port"],
    [{ mode: "open", hosts: [] }, "Unrecognized key"],
    [{ mode: "public" }, "Invalid"],
  ])("%j", (input, message) => {
    const parsed = NetworkPolicy.safeParse(input);
    expect(parsed.success).toBe(false);
    expect(parsed.error?.issues[0]?.message).toContain(message);
  });
});
