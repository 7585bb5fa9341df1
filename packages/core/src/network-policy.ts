import { z } from "zod";
import { parseIp, parseNetwork } from "./ip-address.ts";

/**
 * What may leave a sandbox. Default deny: a name, an address or a network is reached because the policy names it, and what leads to
 * clouds' metadata, to private networks or to other sandboxes only because it is named literally. Data only; `rock` decides by it.
 */

const port = z
  .number({ error: notAPort })
  .int({ error: notAPort })
  .min(1, { error: notAPort })
  .max(65_535, { error: notAPort });

function notAPort({ input }: { readonly input?: unknown }): string {
  return `${JSON.stringify(input)} is no port: 1 to 65535`;
}

/** `host`, `*.host` (any name below it, not itself). As Harbor's `allowed_hosts`: no scheme, port or path; lower-cased, no final dot. */
export const HostName = z
  .string()
  // Not a transformation: what has passed stays a name, and can be written out again.
  .overwrite((text) => text.toLowerCase().replace(/\.$/, ""))
  .refine(
    (text) =>
      /^(?:\*\.)?(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(
        text,
      ),
    {
      error: (issue) =>
        `${JSON.stringify(issue.input)} is no host name such as pypi.org or *.pythonhosted.org (no scheme, port or path)`,
    },
  )
  .refine((text) => parseIp(text.replace(/^\*\./, "")) === undefined, {
    error: (issue) => `${JSON.stringify(issue.input)} is an address: put it into "addresses"`,
  })
  // Resolvers read 2130706433 and 0x7f.1 as addresses, and 300.1.2.3 is one that was mistyped.
  .refine((text) => !/(?:^|\.)(?:\d+|0x[0-9a-f]*)$/.test(text), {
    error: (issue) =>
      `${JSON.stringify(issue.input)} ends in a number: neither a host name nor an address such as 192.0.2.7`,
  });

const Network = z.string().refine((text) => parseNetwork(text, { strict: true }) !== undefined, {
  error: (issue) =>
    `${JSON.stringify(issue.input)} is no address or network such as 192.0.2.7 or 192.0.2.0/24 (no bits beyond the prefix)`,
});

const HostRule = z.strictObject({ name: HostName, ports: z.array(port).min(1).default([80, 443]) });
const AddressRule = z.strictObject({ network: Network, ports: z.array(port).min(1) });

const amount = z.number().int().positive();

/** Of a whole sandbox. Using one up ends the connection and is an event. */
export const NetworkBudget = z.strictObject({
  bytesUp: amount.default(64 * 2 ** 20),
  bytesDown: amount.default(8 * 2 ** 30),
  connections: amount.default(10_000),
  /** Where HTTP is plain: each request of a connection. Inside TLS nobody can count them. */
  requests: amount.default(100_000),
});
export type NetworkBudget = z.infer<typeof NetworkBudget>;
export type BudgetItem = keyof NetworkBudget;
export const BUDGET_ITEMS = ["bytesUp", "bytesDown", "connections", "requests"] as const;

/** Some of the amounts; what those mean that are left out is said where it is used. */
export const BudgetPart = z.strictObject({
  bytesUp: amount.optional(),
  bytesDown: amount.optional(),
  connections: amount.optional(),
  requests: amount.optional(),
});
export type BudgetPart = z.infer<typeof BudgetPart>;

const budgets = {
  budget: NetworkBudget.prefault({}),
  /** Of each single host (name or address) that is reached. What is left out: as much as the whole sandbox has. */
  hostBudget: BudgetPart.optional(),
};

const allowlist = {
  mode: z.literal("allowlist"),
  hosts: z.array(HostRule).default([]),
  /** Without a name: the packets go where the address says. */
  addresses: z.array(AddressRule).default([]),
};

export const NetworkPolicy = z.discriminatedUnion("mode", [
  /** Loopback only: there is no interface. */
  z.strictObject({ mode: z.literal("none") }),
  z.strictObject({ ...allowlist, ...budgets }),
  /** The model gateway and nothing else. */
  z.strictObject({ mode: z.literal("gateway-only"), ...budgets }),
  /** Everything, recorded. Unsafe; asked for by this name. */
  z.strictObject({ mode: z.literal("open"), ...budgets }),
]);
export type NetworkPolicy = z.infer<typeof NetworkPolicy>;
export type NetworkMode = NetworkPolicy["mode"];

/** Limits of a policy, which outlast it: another allow list is no reason for another budget. */
export interface Budgets {
  readonly budget: NetworkBudget;
  readonly hostBudget?: BudgetPart | undefined;
}

const changes = { budget: BudgetPart.optional(), hostBudget: BudgetPart.optional() };

/** A policy that takes the place of another: amounts that it does not name stay as they are. */
export const NetworkChange = z.discriminatedUnion("mode", [
  z.strictObject({ mode: z.literal("none") }),
  z.strictObject({ ...allowlist, ...changes }),
  z.strictObject({ mode: z.literal("gateway-only"), ...changes }),
  z.strictObject({ mode: z.literal("open"), ...changes }),
]);
export type NetworkChange = z.infer<typeof NetworkChange>;

/** Undefined where there is no network that could have any. */
export const budgetsOf = (policy: NetworkPolicy): Budgets | undefined =>
  policy.mode === "none" ? undefined : { budget: policy.budget, hostBudget: policy.hostBudget };

/** The policy that a change leads to. `before`: the budgets until now. */
export function changedPolicy(change: NetworkChange, before: Budgets | undefined): NetworkPolicy {
  if (change.mode === "none") return change;
  const { hostBudget: _, ...rest } = change;
  const hostBudget = BudgetPart.parse({ ...before?.hostBudget, ...change.hostBudget });
  return NetworkPolicy.parse({
    ...rest,
    budget: { ...before?.budget, ...change.budget },
    ...(Object.keys(hostBudget).length === 0 ? {} : { hostBudget }),
  });
}

/** The same for what takes the place of a whole policy, if anything does. */
export const policyAfter = (change: NetworkChange | undefined, before: NetworkPolicy): NetworkPolicy =>
  change === undefined ? before : changedPolicy(change, budgetsOf(before));

/** In this order. */
export const PHASES = ["install", "agent", "verifier"] as const;
export type Phase = (typeof PHASES)[number];

/**
 * Policies of the phases that differ from the agent's own (`Instance.network`): before the agent begins, and while the verifier runs. A
 * phase that is left out has the agent's, and budgets that a phase does not name are the agent's.
 */
export const NetworkPhases = z.strictObject({
  install: NetworkChange.optional(),
  verifier: NetworkChange.optional(),
});
export type NetworkPhases = z.infer<typeof NetworkPhases>;
