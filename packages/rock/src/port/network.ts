import { AleError, type BudgetItem, type NetworkChange, type NetworkPolicy, parseNetwork } from "@ale/core";
import { tooWide } from "../egress/breadth.ts";

export interface NetworkChangeOptions {
  /** End connections that are open, also those still allowed. */
  readonly endOpen?: boolean;
  /** Forget what was used of the budgets; the limits stay. */
  readonly resetBudgets?: boolean;
}

type Used = Readonly<Record<BudgetItem, number>>;

export interface NetworkUse {
  readonly sandbox: Used;
  /** Each host that was reached, by its name, or by its address where that was used. */
  readonly hosts: Readonly<Record<string, Used>>;
}

/** Throws an AleError where a driver cannot enforce a network policy: it is never run with another one. */
export function refuseNetwork(
  modes: readonly NetworkPolicy["mode"][],
  { mode }: Pick<NetworkPolicy, "mode">,
): void {
  if (modes.includes(mode)) return;
  throw new AleError(
    "network-unsupported",
    `the network policy ${JSON.stringify(mode)} cannot be enforced here; this driver has: ${modes.join(", ")}`,
    { next: 'use a driver that has it (`./ale doctor` tells), or the mode "none"' },
  );
}

/** Throws an AleError `network-too-wide` for an allowlist that is the open network under another name. */
export function refuseTooWide(policy: NetworkChange): void {
  const wide = tooWide(policy);
  if (wide === undefined) return;
  throw new AleError("network-too-wide", `${wide.rule} cannot be allowed: ${wide.why}`, {
    next: `name the hosts or the networks that are needed, or ask for the open network by its name (mode "open"), which is unsafe`,
  });
}

/** Where there is none, and a policy is of no use without. */
export const withoutModelGateway = ({ mode }: Pick<NetworkPolicy, "mode">): AleError =>
  new AleError(
    "network-unsupported",
    `the network policy ${JSON.stringify(mode)} cannot be enforced here: there is no model gateway`,
    {
      next: "say where it is: --model-gateway HOST:PORT of `ale rock serve` or `ale run` (option `egress.modelGateway` of the driver)",
    },
  );

/** Throws an AleError for what no sandbox can reach, although it is named. */
export function refuseIpv6(policy: NetworkPolicy): void {
  const rule =
    policy.mode === "allowlist"
      ? policy.addresses.find(({ network }) => parseNetwork(network)?.v6 === true)
      : undefined;
  if (rule === undefined) return;
  throw new AleError(
    "network-unsupported",
    `${rule.network} cannot be allowed: sandboxes have IPv4 only, and IPv6 does not leave them`,
    { next: "name its IPv4 address, or its host name, which is then reached over whatever the host has" },
  );
}
