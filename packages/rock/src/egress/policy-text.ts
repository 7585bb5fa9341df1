import type { NetworkPolicy } from "@ale/core";

/** A policy in one line, for records and for people: `allowlist pypi.org:80,443 192.0.2.0/24:5432`. */
export function policyText(policy: NetworkPolicy): string {
  if (policy.mode !== "allowlist") return policy.mode;
  const rules = [
    ...policy.hosts.map(({ name, ports }) => `${name}:${ports.join(",")}`),
    ...policy.addresses.map(({ network, ports }) => `${bracketed(network)}:${ports.join(",")}`),
  ];
  return ["allowlist", ...rules].join(" ");
}

/** The colons of an IPv6 address are no ports. */
const bracketed = (network: string): string => (network.includes(":") ? `[${network}]` : network);
