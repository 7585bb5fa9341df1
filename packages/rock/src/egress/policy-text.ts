import {
  BUDGET_ITEMS,
  type BudgetItem,
  type BudgetPart,
  NetworkBudget,
  type NetworkPolicy,
} from "@ale/core/network-policy";

/** A policy in one line, for records and for people: `allowlist pypi.org:80,443 192.0.2.0/24:5432 budget bytes-up=1000`. */
export function policyText(policy: NetworkPolicy): string {
  if (policy.mode === "none") return policy.mode;
  const usual = NetworkBudget.parse({});
  const unusual = BUDGET_ITEMS.filter((item) => policy.budget[item] !== usual[item]);
  return [
    rulesText(policy),
    ...amountsText("budget", Object.fromEntries(unusual.map((item) => [item, policy.budget[item]]))),
    ...amountsText("host-budget", policy.hostBudget ?? {}),
  ].join(" ");
}

/** As people write them. */
export const BUDGET_NAMES: Readonly<Record<BudgetItem, string>> = {
  bytesUp: "bytes-up",
  bytesDown: "bytes-down",
  connections: "connections",
  requests: "requests",
};

function amountsText(name: string, amounts: BudgetPart): readonly string[] {
  const said = BUDGET_ITEMS.filter((item) => amounts[item] !== undefined);
  return said.length === 0 ? [] : [name, ...said.map((item) => `${BUDGET_NAMES[item]}=${amounts[item]}`)];
}

function rulesText(policy: NetworkPolicy): string {
  if (policy.mode !== "allowlist") return policy.mode;
  const rules = [
    ...policy.hosts.map(({ name, ports }) => `${name}:${ports.join(",")}`),
    ...policy.addresses.map(({ network, ports }) => `${bracketed(network)}:${ports.join(",")}`),
  ];
  return ["allowlist", ...rules].join(" ");
}

/** The colons of an IPv6 address are no ports. */
const bracketed = (network: string): string => (network.includes(":") ? `[${network}]` : network);
