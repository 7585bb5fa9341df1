import {
  type IpAddress,
  isWithin,
  type NetworkChange,
  type NetworkPolicy,
  parseIp,
  parseNetwork,
} from "@ale/core";

/**
 * What may leave a sandbox. Default deny: a name, an address or a network is reached because the policy names it, and what leads to
 * clouds' metadata, to private networks or to other sandboxes only because it is named literally. Pure; the gateway asks it.
 */

export const REFUSALS = ["name", "port", "metadata", "private", "sandbox", "address", "default"] as const;
/** Why something is refused; `net.rule` of telemetry. */
export type Refusal = (typeof REFUSALS)[number];

export type EgressDecision =
  | { readonly allowed: true }
  | { readonly allowed: false; readonly refusal: Refusal };

const ALLOWED: EgressDecision = { allowed: true };
const refused = (refusal: Refusal): EgressDecision => ({ allowed: false, refusal });

/** Of the model gateway, wherever that really is. */
export const MODEL_GATEWAY = "model-gateway.ale.internal";

/** Whether a policy is of no use without a model gateway. */
export const wantsModelGateway = (policy: NetworkChange): boolean =>
  policy.mode === "gateway-only" || literally(policy, MODEL_GATEWAY);

/** Whether the resolver gives the name an address. */
export function decideName(policy: NetworkPolicy, name: string): EgressDecision {
  // It is asked for again outside, by resolvers that may take other bytes for something else.
  if (!HOST_NAME.test(name)) return refused("name");
  if (isModelGateway(name))
    return policy.mode === "open" || wantsModelGateway(policy) ? ALLOWED : refused("name");
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
export function decideHost(policy: NetworkPolicy, name: string, toPort: number): EgressDecision {
  const named = decideName(policy, name);
  if (named.allowed && isModelGateway(name) && toPort !== 80) return refused("port");
  if (!named.allowed || policy.mode !== "allowlist") return named;
  const ports = policy.hosts.filter((rule) => covers(rule.name, name)).flatMap((rule) => rule.ports);
  return ports.includes(toPort) ? ALLOWED : refused("port");
}

/**
 * Whether packets may go to an address that nobody resolved. `sandboxes`: the network that sandboxes live in. `own`: addresses of this host, where what
 * a firewall keeps from others would be open to it; they are as private ones.
 */
export function decideAddress(
  policy: NetworkPolicy,
  address: string,
  toPort: number,
  sandboxes: readonly string[] = [],
  own: readonly string[] = [],
): EgressDecision {
  const ip = parseIp(address);
  if (ip === undefined) return refused("address");
  const rules = policy.mode === "allowlist" ? policy.addresses : [];
  const reaching = rules.filter((rule) => isWithin(ip, parseNetwork(rule.network)!));
  const special = kindOf(ip, sandboxes, own);
  // A wide network that happens to hold a special address does not name it.
  const literal = reaching.filter(
    (rule) => special === null || isLiteral(rule.network, special, sandboxes, own),
  );
  if (special !== null && literal.length === 0) return refused(special);
  if (policy.mode === "open") return ALLOWED;
  if (literal.length === 0) return refused("default");
  return literal.some((rule) => rule.ports.includes(toPort)) ? ALLOWED : refused("port");
}

/** Whether a name's real address may be dialled by the proxy: never a private one, whatever the name server says. */
export function decideUpstream(
  policy: NetworkPolicy,
  address: string,
  toPort: number,
  own: readonly string[] = [],
): EgressDecision {
  const ip = parseIp(address);
  if (ip === undefined) return refused("address");
  return kindOf(ip, [], own) === null ? ALLOWED : decideAddress(policy, address, toPort, [], own);
}

/** A rule that names what is denied unless it is named: private space, metadata or addresses of this host. */
export function specialIn(policy: NetworkChange, own: readonly string[] = []): string | undefined {
  if (policy.mode !== "allowlist") return undefined;
  const address = policy.addresses.find((rule) => isSpecial(rule.network, own));
  return address?.network ?? policy.hosts.find(({ name }) => isMetadataName(name))?.name;
}

/** Whether all of a network is private space or metadata. */
export const isSpecial = (network: string, own: readonly string[] = []): boolean =>
  isLiteral(network, "metadata", [], []) || isLiteral(network, "private", [], own);

/** Rule names are `host` or `*.host`. */
export function covers(rule: string, name: string): boolean {
  const wanted = plain(name);
  return rule.startsWith("*.")
    ? wanted.endsWith(rule.slice(1)) && wanted.length > rule.length - 1
    : wanted === rule;
}

const METADATA_NETWORKS = [
  "169.254.0.0/16",
  "100.100.100.200/32",
  "168.63.129.16/32",
  "fd00:ec2::/32",
  "fe80::/10",
].map(networkOf);
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
  "100::/64",
  "2001::/32",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "2002::/16",
  "fc00::/7",
  "fec0::/10",
  "ff00::/8",
].map(networkOf);

function networkOf(text: string) {
  const network = parseNetwork(text, { strict: true });
  if (network === undefined) throw new RangeError(`not a network: ${text}`);
  return network;
}

function kindOf(
  ip: IpAddress,
  sandboxes: readonly string[],
  own: readonly string[],
): "metadata" | "sandbox" | "private" | null {
  if (METADATA_NETWORKS.some((network) => isWithin(ip, network))) return "metadata";
  if (sandboxes.some((text) => isWithin(ip, networkOf(text)))) return "sandbox";
  const inside = [...PRIVATE_NETWORKS, ...own.map(networkOf)];
  return inside.some((network) => isWithin(ip, network)) ? "private" : null;
}

/** A rule names a special address if all that it covers is special in the same way. */
function isLiteral(
  rule: string,
  kind: "metadata" | "sandbox" | "private",
  sandboxes: readonly string[],
  own: readonly string[],
): boolean {
  const network = parseNetwork(rule)!;
  const special =
    kind === "metadata"
      ? METADATA_NETWORKS
      : kind === "sandbox"
        ? sandboxes.map(networkOf)
        : [...PRIVATE_NETWORKS, ...own.map(networkOf)];
  return special.some((one) => one.prefix <= network.prefix && isWithin(network, one));
}

const HOST_NAME = /^(?=.{1,253}\.?$)[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_-])?\.?$/i;
const plain = (name: string): string => name.toLowerCase().replace(/\.$/, "");
const isModelGateway = (name: string): boolean => plain(name) === MODEL_GATEWAY;
const isMetadataName = (name: string): boolean => METADATA_NAMES.includes(plain(name));

const literally = (policy: NetworkChange, name: string): boolean =>
  policy.mode === "allowlist" && policy.hosts.some((rule) => rule.name === plain(name));
