import { AleError } from "@ale/core";
import { describe, expect, it } from "vitest";
import { EXIT, exitCodeOf } from "../src/exit-codes.ts";
import { networkOption } from "../src/network-options.ts";

const option = (network: string | undefined, ...allow: string[]) => networkOption({ network, allow });

describe("--network and --allow", () => {
  it("change nothing where neither is given", () => {
    expect(option(undefined)).toBeUndefined();
  });

  it("make an allowlist of names and of addresses with their ports", () => {
    expect(
      option(undefined, "PyPI.org", "*.example.org:8443", "192.0.2.0/24:5432", "[::ffff:192.0.2.9]:80"),
    ).toMatchObject({
      mode: "allowlist",
      hosts: [
        { name: "pypi.org", ports: [80, 443] },
        { name: "*.example.org", ports: [8443] },
      ],
      addresses: [
        { network: "192.0.2.0/24", ports: [5432] },
        { network: "::ffff:192.0.2.9", ports: [80] },
      ],
    });
  });

  it("name the other modes", () => {
    expect(option("none")).toEqual({ mode: "none" });
    expect(option("open")).toMatchObject({ mode: "open" });
  });

  it.each([
    ["open", ["pypi.org"], "--allow pypi.org goes with --network allowlist", "leave one"],
    ["allowlist", [], "allows nothing by itself", "--allow pypi.org"],
    ["opne", [], "is not known", "open"],
    [
      undefined,
      ["https://me@pypi.org:8443/simple"],
      "a whole address with a scheme",
      "--allow pypi.org:8443",
    ],
    [undefined, ["pypi.org/simple"], "it has a path", "--allow pypi.org"],
    [undefined, ["not a host!"], 'no host name: " ", "!" cannot be in one', "--allow pypi.org"],
    [undefined, ["b\u00fccher.example:443"], "cannot be in one", "--allow xn--bcher-kva.example"],
    [undefined, [""], "names no host", "--allow pypi.org"],
    [undefined, ["*"], "is every host", "--allow"],
    [undefined, ["a.*.example.org"], '"*." may only stand at its beginning', "--allow *.example.org"],
    [undefined, ["a..org"], "nothing between two of its dots", "--allow"],
    [undefined, ["-a.org"], '"-a" begins or ends with a hyphen', "--allow"],
    [undefined, [`${"a".repeat(64)}.org`], "has 64 characters, and 63 are the most", "--allow"],
    [undefined, ["192.0.2.7"], "needs a port", "--allow 192.0.2.7:443"],
    [undefined, ["pypi.org:99999"], '"99999" is no port: 1 to 65535', "--allow pypi.org:443"],
    [undefined, ["pypi.org:http"], '"http" is no port: 1 to 65535', "--allow pypi.org:443"],
    [undefined, ["pypi.org:"], '"" is no port', "--allow pypi.org:443"],
    [undefined, ["192.0.2.7:0"], '"0" is no port: 1 to 65535', "--allow 192.0.2.7:443"],
    [undefined, ["192.0.2.7/24:80"], "has bits beyond its prefix /24", "--allow 192.0.2.0/24:80"],
    [undefined, ["192.0.2.0/33:80"], '"33" is no prefix: 0 to 32', "--allow 192.0.2.0/24:80"],
    [undefined, ["[2001:db8::1]:443"], "is an IPv6 address, and sandboxes have IPv4 only", "its host name"],
    [undefined, ["[2001:db8::]/32:443"], "is an IPv6 address", "its host name"],
    [undefined, ["::/0"], "is an IPv6 address", "its host name"],
    [undefined, ["300.1.2.3:80"], "neither a host name nor an address", "--allow"],
    [undefined, ["2130706433"], "neither a host name nor an address", "--allow"],
    [undefined, ["0x7f.0x1"], "neither a host name nor an address", "--allow"],
  ])("refuse %s with %j", (network, allow, message, next) => {
    let error: unknown;
    try {
      option(network, ...allow);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({
      message: expect.stringContaining(message),
      next: expect.stringContaining(next),
    });
    // The option and the bad value are named.
    for (const text of allow) expect((error as Error).message).toContain(text);
  });
});

describe("a network that a sandbox cannot have", () => {
  it("is something missing where it cannot be enforced, and a wrong wish where the server does not allow it", () => {
    expect(exitCodeOf(new AleError("network-unsupported", "no nftables"))).toBe(EXIT.missing);
    expect(exitCodeOf(new AleError("network-refused", "not open"))).toBe(EXIT.usage);
  });
});
