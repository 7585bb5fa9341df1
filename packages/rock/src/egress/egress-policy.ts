import { type IpAddress, isWithin, parseIp, parseNetwork } from "@ale/core";
import { z } from "zod";

/**
 * What may leave a sandbox. Default deny: a name, an address or a network is reached because the policy names it, and what leads to
 * clouds' metadata, to private networks or to other sandboxes only because it is named literally. Pure; the gateway asks it.
 */

const port = z.number().int().min(1).max(65_535);

/** `host`, `*.host` (any name below it, not itself). As Harbor's `allowed_hosts`: no scheme, port or path; lower-cased, no final dot. */
const HostName = z
  .string()
  .transform((text) => text.toLowerCase().replace(/\.$/, ""))
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
  .refine((text) => parseIp(text) === undefined, {
    error: (issue) => `${JSON.stringify(issue.input)} is an address: put it into "addresses"`,
  });

const Network = z.string().refine((text) => parseNetwork(text, { strict: true }) !== undefined, {
  error: (issue) =>
    `${JSON.stringify(issue.input)} is no address or network such as 192.0.2.7 or 192.0.2.0/24 (no bits beyond the prefix)`,
});

const HostRule = z.strictObject({ name: HostName, ports: z.array(port).min(1).default([80, 443]) });
const AddressRule = z.strictObject({ network: Network, ports: z.array(port).min(1) });

/** Per sandbox; a host's own budget is the same again. Reaching one ends the connection and is an event. */
export const EgressBudget = z.strictObject({
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
});
export type EgressBudget = z.infer<typeof EgressBudget>;

export const EgressPolicy = z.discriminatedUnion("mode", [
  /** Loopback only: there is no interface. */
  z.strictObject({ mode: z.literal("none") }),
  z.strictObject({
    mode: z.literal("allowlist"),
    hosts: z.array(HostRule).default([]),
    /** Without a name: the packets go where the address says. */
    addresses: z.array(AddressRule).default([]),
    budget: EgressBudget.prefault({}),
  }),
  /** The model gateway and nothing else. */
  z.strictObject({ mode: z.literal("gateway-only"), budget: EgressBudget.prefault({}) }),
  /** Everything, recorded. Unsafe; asked for by this name. */
  z.strictObject({ mode: z.literal("open"), budget: EgressBudget.prefault({}) }),
]);
export type EgressPolicy = z.infer<typeof EgressPolicy>;

export const REFUSALS = ["name", "port", "metadata", "private", "sandbox", "address", "default"] as const;
/** Why something is refused; `net.rule` of telemetry. */
export type Refusal = (typeof REFUSALS)[number];

export type EgressDecision =
  | { readonly allowed: true }
  | { readonly allowed: false; readonly refusal: Refusal };

const ALLOWED: EgressDecision = { allowed: true };
const refused = (refusal: Refusal): EgressDecision => ({ allowed: false, refusal });

/** Whether the resolver gives the name an address. */
export function decideName(policy: EgressPolicy, name: string): EgressDecision {
  if (isMetadataName(name)) return literally(policy, name) ? ALLOWED : refused("metadata");
  switch (policy.mode) {
    case "open":
      return ALLOWED;
    case "allowlist":
      return policy.hosts.some((rule) => covers(rule.name, name)) ? ALLOWED : refused("name");
    case "none":
    case "gateway-only":
      return refused("name");
    default:
      return policy satisfies never;
  }
}

/** Whether a connection to a name that was resolved may be made to this port. */
export function decideHost(policy: EgressPolicy, name: string, toPort: number): EgressDecision {
  const named = decideName(policy, name);
  if (!named.allowed || policy.mode !== "allowlist") return named;
  const ports = policy.hosts.filter((rule) => covers(rule.name, name)).flatMap((rule) => rule.ports);
  return ports.includes(toPort) ? ALLOWED : refused("port");
}

/** Whether packets may go to an address that nobody resolved. `sandboxes`: the network that sandboxes live in. */
export function decideAddress(
  policy: EgressPolicy,
  address: string,
  toPort: number,
  sandboxes: readonly string[] = [],
): EgressDecision {
  const ip = parseIp(address);
  if (ip === undefined) return refused("address");
  const rules = policy.mode === "allowlist" ? policy.addresses : [];
  const reaching = rules.filter((rule) => isWithin(ip, parseNetwork(rule.network)!));
  const special = kindOf(ip, sandboxes);
  // A wide network that happens to hold a special address does not name it.
  const literal = reaching.filter((rule) => special === null || isLiteral(rule.network, special, sandboxes));
  if (special !== null && literal.length === 0) return refused(special);
  if (policy.mode === "open") return ALLOWED;
  if (literal.length === 0) return refused("default");
  return literal.some((rule) => rule.ports.includes(toPort)) ? ALLOWED : refused("port");
}

/** Whether a name's real address may be dialled by the proxy: never a private one, whatever the name server says. */
export function decideUpstream(policy: EgressPolicy, address: string, toPort: number): EgressDecision {
  const ip = parseIp(address);
  if (ip === undefined) return refused("address");
  return kindOf(ip, []) === null ? ALLOWED : decideAddress(policy, address, toPort);
}

/** Rule names are `host` or `*.host`. */
export function covers(rule: string, name: string): boolean {
  const wanted = name.toLowerCase().replace(/\.$/, "");
  return rule.startsWith("*.")
    ? wanted.endsWith(rule.slice(1)) && wanted.length > rule.length - 1
    : wanted === rule;
}

const METADATA_NETWORKS = ["169.254.0.0/16", "100.100.100.200/32", "fd00:ec2::/32", "fe80::/10"].map(
  networkOf,
);
const METADATA_NAMES = [
  "metadata.google.internal",
  "metadata.goog",
  "metadata.azure.com",
  "instance-data",
  "instance-data.ec2.internal",
];
/** Not routed on the public internet, or not to a single host there (RFC 6890 and successors). */
const PRIVATE_NETWORKS = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/128",
  "::1/128",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "2002::/16",
  "fc00::/7",
  "ff00::/8",
].map(networkOf);

function networkOf(text: string) {
  const network = parseNetwork(text, { strict: true });
  if (network === undefined) throw new RangeError(`not a network: ${text}`);
  return network;
}

function kindOf(ip: IpAddress, sandboxes: readonly string[]): "metadata" | "sandbox" | "private" | null {
  if (METADATA_NETWORKS.some((network) => isWithin(ip, network))) return "metadata";
  if (sandboxes.some((text) => isWithin(ip, networkOf(text)))) return "sandbox";
  return PRIVATE_NETWORKS.some((network) => isWithin(ip, network)) ? "private" : null;
}

/** A rule names a special address if all that it covers is special in the same way. */
function isLiteral(
  rule: string,
  kind: "metadata" | "sandbox" | "private",
  sandboxes: readonly string[],
): boolean {
  const network = parseNetwork(rule)!;
  const special =
    kind === "metadata"
      ? METADATA_NETWORKS
      : kind === "sandbox"
        ? sandboxes.map(networkOf)
        : PRIVATE_NETWORKS;
  return special.some((one) => one.prefix <= network.prefix && isWithin(network, one));
}

const isMetadataName = (name: string): boolean =>
  METADATA_NAMES.includes(name.toLowerCase().replace(/\.$/, ""));

const literally = (policy: EgressPolicy, name: string): boolean =>
  policy.mode === "allowlist" &&
  policy.hosts.some((rule) => rule.name === name.toLowerCase().replace(/\.$/, ""));
