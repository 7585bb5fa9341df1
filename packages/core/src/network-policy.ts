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

/** Per sandbox; a host's own budget is the same again. Reaching one ends the connection and is an event. */
export const NetworkBudget = z.strictObject({
  bytesUp: z
    .number()
    .int()
    .positive()
    .default(64 * 2 ** 20),
  bytesDown: z
    .number()
    .int()
    .positive()
    .default(8 * 2 ** 30),
  connections: z.number().int().positive().default(10_000),
  /** Where HTTP is plain: each request of a connection. Inside TLS nobody can count them. */
  requests: z.number().int().positive().default(100_000),
});
export type NetworkBudget = z.infer<typeof NetworkBudget>;

export const NetworkPolicy = z.discriminatedUnion("mode", [
  /** Loopback only: there is no interface. */
  z.strictObject({ mode: z.literal("none") }),
  z.strictObject({
    mode: z.literal("allowlist"),
    hosts: z.array(HostRule).default([]),
    /** Without a name: the packets go where the address says. */
    addresses: z.array(AddressRule).default([]),
    budget: NetworkBudget.prefault({}),
  }),
  /** The model gateway and nothing else. */
  z.strictObject({ mode: z.literal("gateway-only"), budget: NetworkBudget.prefault({}) }),
  /** Everything, recorded. Unsafe; asked for by this name. */
  z.strictObject({ mode: z.literal("open"), budget: NetworkBudget.prefault({}) }),
]);
export type NetworkPolicy = z.infer<typeof NetworkPolicy>;
export type NetworkMode = NetworkPolicy["mode"];

/** In this order. */
export const PHASES = ["install", "agent", "verifier"] as const;
export type Phase = (typeof PHASES)[number];

/**
 * Policies of the phases that differ from the agent's own (`Instance.network`): before the agent begins, and while the verifier runs. A
 * phase that is left out has the agent's.
 */
export const NetworkPhases = z.strictObject({
  install: NetworkPolicy.optional(),
  verifier: NetworkPolicy.optional(),
});
export type NetworkPhases = z.infer<typeof NetworkPhases>;
