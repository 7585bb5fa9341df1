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
    ["open", ["pypi.org"], "--allow goes with"],
    ["allowlist", [], "allows nothing by itself"],
    ["opne", [], "is not known"],
    [undefined, ["https://pypi.org"], "is no host"],
    [undefined, ["a b"], "is no host name"],
    [undefined, ["192.0.2.7"], "needs a port"],
    [undefined, ["pypi.org:99999"], "99999 is no port: 1 to 65535"],
    [undefined, ["192.0.2.7:0"], "0 is no port: 1 to 65535"],
    [undefined, ["192.0.2.7/24:80"], "no bits beyond the prefix"],
    [undefined, ["[2001:db8::1]:443"], "is an IPv6 address, and sandboxes have IPv4 only"],
    [undefined, ["[2001:db8::]/32:443"], "is an IPv6 address"],
    [undefined, ["300.1.2.3:80"], "neither a host name nor an address"],
    [undefined, ["2130706433"], "neither a host name nor an address"],
    [undefined, ["0x7f.0x1"], "neither a host name nor an address"],
  ])("refuse %s with %j", (network, allow, message) => {
    expect(() => option(network, ...allow)).toThrow(message);
  });
});

describe("a network that a sandbox cannot have", () => {
  it("is something missing where it cannot be enforced, and a wrong wish where the server does not allow it", () => {
    expect(exitCodeOf(new AleError("network-unsupported", "no nftables"))).toBe(EXIT.missing);
    expect(exitCodeOf(new AleError("network-refused", "not open"))).toBe(EXIT.usage);
  });
});
