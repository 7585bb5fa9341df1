import { NetworkPolicy } from "@ale/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type HarborTables, harborNetwork, harborNetworkLines } from "../src/harbor-network.ts";

const NONE: NetworkPolicy = { mode: "none" };
const OPEN = NetworkPolicy.parse({ mode: "open" });
const allowing = (hosts: string[], addresses: string[] = []): NetworkPolicy =>
  NetworkPolicy.parse({
    mode: "allowlist",
    hosts: hosts.map((name) => ({ name })),
    addresses: addresses.map((network) => ({ network, ports: [80, 443] })),
  });

const read = (tables: HarborTables, extra: readonly string[] = []) => {
  const result = harborNetwork(tables, extra);
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
};

describe("the network of a Harbor task", () => {
  it.each<[string, HarborTables, NetworkPolicy]>([
    ["says nothing", {}, OPEN],
    ["is public", { environment: { network_mode: "public" } }, OPEN],
    ["is none", { environment: { network_mode: "no-network" } }, NONE],
    ["is none, as it was said before", { environment: { allow_internet: false } }, NONE],
    ["may be, as it was said before", { environment: { allow_internet: true } }, OPEN],
    [
      "is said in both ways: the new one wins",
      { environment: { allow_internet: false, network_mode: "public" } },
      OPEN,
    ],
    ["is an allowlist of nothing", { environment: { network_mode: "allowlist" } }, allowing([])],
    [
      "is an allowlist",
      {
        environment: {
          network_mode: "allowlist",
          allowed_hosts: ["PyPI.org.", "*.pythonhosted.org", "192.0.2.7", "192.0.2.0/24", "2001:db8::1"],
        },
      },
      allowing(["pypi.org", "*.pythonhosted.org"], ["192.0.2.7", "192.0.2.0/24", "2001:db8::1"]),
    ],
  ])("%s", (_name, tables, network) => {
    expect(read(tables)).toEqual({ network, networkPhases: {}, warnings: [] });
  });

  it("is another one in the phases that say so, and only there", () => {
    const tables = {
      environment: { network_mode: "public" },
      agent: { network_mode: "allowlist", allowed_hosts: ["api.x.com"] },
      verifier: { network_mode: "no-network" },
    };
    expect(read(tables)).toEqual({
      network: allowing(["api.x.com"]),
      networkPhases: { install: OPEN, verifier: NONE },
      warnings: [],
    });
    expect(read({ environment: tables.environment, verifier: tables.verifier })).toEqual({
      network: OPEN,
      networkPhases: { verifier: NONE },
      warnings: [],
    });
    expect(read({ environment: { network_mode: "no-network" }, agent: tables.agent })).toEqual({
      network: allowing(["api.x.com"]),
      networkPhases: { install: NONE, verifier: NONE },
      warnings: [],
    });
  });

  describe("with hosts that a whole run allows", () => {
    it("is an allowlist where it was none", () => {
      expect(read({ environment: { network_mode: "no-network" } }, ["api.x.com"])).toEqual({
        network: allowing(["api.x.com"]),
        networkPhases: {},
        warnings: [],
      });
    });

    it("allows them beside its own, each once", () => {
      const tables = { environment: { network_mode: "allowlist", allowed_hosts: ["a.com", "b.com"] } };
      expect(read(tables, ["B.com", "c.com"]).network).toEqual(allowing(["a.com", "b.com", "c.com"]));
    });

    it("stays open where it was, and says that they mean nothing", () => {
      const { network, warnings } = read({ verifier: { network_mode: "no-network" } }, ["api.x.com"]);
      expect(network).toEqual(OPEN);
      expect(warnings).toEqual([
        "extra_allowed_hosts are ignored where everything is allowed: environment, agent (public)",
      ]);
    });
  });

  it.each<[string, HarborTables, string[], string, string]>([
    [
      "hosts without a mode",
      { environment: { allowed_hosts: ["a.com"] } },
      [],
      "environment.allowed_hosts",
      "only valid",
    ],
    [
      "a phase's hosts beside another table's mode",
      {
        environment: { network_mode: "allowlist", allowed_hosts: ["a.com"] },
        agent: { allowed_hosts: ["b.com"] },
      },
      [],
      "agent.allowed_hosts",
      "only valid",
    ],
    [
      "a URL",
      listed("a.com", "https://a.com"),
      [],
      "environment.allowed_hosts[1]",
      "no scheme, port or path",
    ],
    ["a port", listed("a.com:443"), [], "environment.allowed_hosts[0]", "no scheme, port or path"],
    ["a path", listed("a.com/x"), [], "environment.allowed_hosts[0]", "no scheme, port or path"],
    [
      "a wildcard of an address",
      listed("*.1.2.3.4"),
      [],
      "environment.allowed_hosts[0]",
      "wildcards are for names",
    ],
    ["bits beyond a prefix", listed("10.0.0.1/8"), [], "environment.allowed_hosts[0]", "beyond its prefix"],
    ["a bare wildcard", listed("*"), [], "environment.allowed_hosts[0]", "is no host name"],
    ["a run's host that is none", {}, ["a b"], "extra_allowed_hosts[0]", "is no host name"],
    ["an unknown mode", { agent: { network_mode: "offline" } }, [], "agent.network_mode", "public"],
    [
      "hosts that are no list",
      { verifier: { allowed_hosts: "a.com" } },
      [],
      "verifier.allowed_hosts",
      "array",
    ],
  ])("%s is refused by its key", (_name, tables, extra, key, message) => {
    const result = harborNetwork(tables, extra);
    expect(result.ok).toBe(false);
    if (result.ok) return;
    expect(result.error.map((issue) => issue.key)).toEqual([key]);
    expect(result.error[0]?.message).toContain(message);
  });

  it("names everything that is wrong, not only the first", () => {
    const result = harborNetwork({ ...listed("a b", "*"), verifier: { allowed_hosts: ["c.com"] } });
    expect(result.ok ? [] : result.error.map(({ key }) => key)).toEqual([
      "verifier.allowed_hosts",
      "environment.allowed_hosts[0]",
      "environment.allowed_hosts[1]",
    ]);
  });

  it("comes back as it was written", () => {
    const policies = fc.oneof(
      fc.constant(NONE),
      fc.constant(OPEN),
      fc
        .tuple(fc.uniqueArray(fc.domain(), { maxLength: 3 }), fc.uniqueArray(fc.ipV4(), { maxLength: 2 }))
        .map(([hosts, addresses]) => allowing(hosts, addresses)),
    );
    fc.assert(
      fc.property(policies, policies, policies, (network, install, verifier) => {
        const lines = harborNetworkLines(network, { install, verifier });
        const { network: again, networkPhases } = read({
          environment: tableOf(lines.environment),
          agent: tableOf(lines.agent),
          verifier: tableOf(lines.verifier),
        });
        expect(again).toEqual(network);
        expect(networkPhases.install ?? again).toEqual(install);
        expect(networkPhases.verifier ?? again).toEqual(verifier);
      }),
    );
  });
});

function listed(...hosts: string[]): HarborTables {
  return { environment: { network_mode: "allowlist", allowed_hosts: hosts } };
}

/** Their values are JSON, which TOML reads alike. */
const tableOf = (lines: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(
    lines.map((line) => {
      const [key, value] = line.split(" = ");
      return [key, JSON.parse(value!)];
    }),
  );
