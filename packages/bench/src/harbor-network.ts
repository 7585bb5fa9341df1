import {
  err,
  HostName,
  type NetworkPhases,
  NetworkPolicy,
  ok,
  parseIp,
  parseNetwork,
  policyAfter,
  type Result,
} from "@ale/core";
import { z } from "zod";

/**
 * The network of a Harbor task, `network_mode` and `allowed_hosts` of its tables, as policies of an instance, and back. Pure. Harbor names no ports:
 * what it allows is allowed on those of the web, as its own proxy has it.
 */

const PORTS = [80, 443];

export const HarborMode = z.enum(["public", "no-network", "allowlist"]);
export type HarborMode = z.infer<typeof HarborMode>;

/** What a table may say about it; whatever else it has is no business of ours. */
const Table = z.object({
  network_mode: HarborMode.optional(),
  allowed_hosts: z.array(z.string()).optional(),
});
const Environment = Table.extend({ allow_internet: z.boolean().optional() });

const Tables = z.object({
  environment: Environment.default({}),
  agent: Table.default({}),
  verifier: Table.default({}),
});
/** As a TOML reader gives them; checked here. */
export interface HarborTables {
  readonly environment?: unknown;
  readonly agent?: unknown;
  readonly verifier?: unknown;
}

export interface HarborNetwork {
  /** The agent's. */
  readonly network: NetworkPolicy;
  /** Only those that differ from it. */
  readonly networkPhases: NetworkPhases;
  readonly warnings: readonly string[];
}

export interface HarborIssue {
  /** E.g. `environment.allowed_hosts[2]`. */
  readonly key: string;
  readonly message: string;
}

/** One phase as Harbor thinks of it. */
interface Phase {
  readonly mode: HarborMode;
  readonly hosts: readonly string[];
}

type Name = keyof HarborTables;

/**
 * `extraAllowedHosts`: those of a whole run. They turn `no-network` into an allowlist, add to one, and mean nothing where everything is allowed.
 * On failure every issue is named.
 */
export function harborNetwork(
  tables: HarborTables,
  extraAllowedHosts: readonly string[] = [],
): Result<HarborNetwork, readonly HarborIssue[]> {
  const parsed = Tables.safeParse(tables);
  if (!parsed.success)
    return err(
      parsed.error.issues.map(({ path, message }) => ({ key: keyOf(path), message: oneLine(message) })),
    );
  const { environment, agent, verifier } = parsed.data;
  const base: Phase = { mode: modeOf(environment), hosts: environment.allowed_hosts ?? [] };
  const phases: Readonly<Record<Name, Phase>> = {
    environment: base,
    agent: phaseOf(agent, base),
    verifier: phaseOf(verifier, base),
  };
  const issues = [
    ...hostsWithoutAllowlist("environment", environment.allowed_hosts, base.mode),
    ...hostsWithoutAllowlist("agent", agent.allowed_hosts, agent.network_mode),
    ...hostsWithoutAllowlist("verifier", verifier.allowed_hosts, verifier.network_mode),
    ...(["environment", "agent", "verifier"] as const).flatMap((name) =>
      badHosts(`${name}.allowed_hosts`, parsed.data[name].allowed_hosts ?? []),
    ),
    ...badHosts("extra_allowed_hosts", extraAllowedHosts),
  ];
  return issues.length > 0 ? err(issues) : ok(policiesOf(phases, extraAllowedHosts));
}

/** `network_mode` wins over what came before it. */
function modeOf({ network_mode, allow_internet }: z.infer<typeof Environment>): HarborMode {
  return network_mode ?? (allow_internet === false ? "no-network" : "public");
}

const phaseOf = (table: z.infer<typeof Table>, base: Phase): Phase =>
  table.network_mode === undefined ? base : { mode: table.network_mode, hosts: table.allowed_hosts ?? [] };

function policiesOf(phases: Readonly<Record<Name, Phase>>, extra: readonly string[]): HarborNetwork {
  const network = policyOf(phases.agent, extra);
  const install = policyOf(phases.environment, extra);
  const verifier = policyOf(phases.verifier, extra);
  const open = (Object.keys(phases) as Name[]).filter((name) => phases[name].mode === "public");
  return {
    network,
    networkPhases: {
      ...(same(install, network) ? {} : { install }),
      ...(same(verifier, network) ? {} : { verifier }),
    },
    warnings:
      extra.length === 0 || open.length === 0
        ? []
        : [`extra_allowed_hosts are ignored where everything is allowed: ${open.join(", ")} (public)`],
  };
}

function policyOf({ mode, hosts }: Phase, extra: readonly string[]): NetworkPolicy {
  if (mode === "public") return NetworkPolicy.parse({ mode: "open" });
  const all = [...new Set([...(mode === "allowlist" ? hosts : []), ...extra].map(plain))];
  if (mode === "no-network" && all.length === 0) return { mode: "none" };
  return NetworkPolicy.parse({
    mode: "allowlist",
    hosts: all.filter((host) => !isNetwork(host)).map((name) => ({ name, ports: PORTS })),
    addresses: all.filter(isNetwork).map((network) => ({ network, ports: PORTS })),
  });
}

const plain = (host: string): string => host.trim().toLowerCase().replace(/\.$/, "");
const isNetwork = (host: string): boolean => parseNetwork(host) !== undefined;

/** Policies are data, made by one schema: equal ones are written alike. */
const same = (one: NetworkPolicy, other: NetworkPolicy): boolean =>
  JSON.stringify(one) === JSON.stringify(other);

function hostsWithoutAllowlist(
  name: Name,
  hosts: readonly string[] | undefined,
  mode: HarborMode | undefined,
): readonly HarborIssue[] {
  if (hosts === undefined || hosts.length === 0 || mode === "allowlist") return [];
  return [
    {
      key: `${name}.allowed_hosts`,
      message: 'is only valid beside network_mode = "allowlist" of the same table',
    },
  ];
}

function badHosts(key: string, hosts: readonly string[]): readonly HarborIssue[] {
  return hosts.flatMap((host, i) => {
    const message = objectionTo(plain(host));
    return message === undefined
      ? []
      : [{ key: `${key}[${i}]`, message: `${JSON.stringify(host.slice(0, 80))} ${message}` }];
  });
}

function objectionTo(host: string): string | undefined {
  if (host.startsWith("*.") && parseIp(host.slice(2)) !== undefined)
    return "is a wildcard of an address; wildcards are for names";
  if (isNetwork(host))
    return parseNetwork(host, { strict: true }) === undefined
      ? "has bits beyond its prefix; name the network itself"
      : undefined;
  return HostName.safeParse(host).success
    ? undefined
    : "is no host name, address or network such as pypi.org, *.pythonhosted.org, 192.0.2.7 or 192.0.2.0/24 (no scheme, port or path)";
}

const keyOf = (path: readonly PropertyKey[]): string =>
  path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .slice(1);
const oneLine = (message: string): string => message.replaceAll("\n", " ");

/** Lines of a table. */
export type HarborLines = readonly string[];

/**
 * What the tables of a task say that has these policies. Harbor has neither ports nor budgets: those are lost. The model gateway is a name
 * like others.
 */
export function harborNetworkLines(
  network: NetworkPolicy,
  phases: NetworkPhases = {},
): Readonly<Record<Name, HarborLines>> {
  const install = policyAfter(phases.install, network);
  const verifier = policyAfter(phases.verifier, network);
  const unless = (policy: NetworkPolicy): HarborLines => (same(policy, install) ? [] : linesOf(policy));
  return { environment: linesOf(install), agent: unless(network), verifier: unless(verifier) };
}

function linesOf(policy: NetworkPolicy): HarborLines {
  const lines = (mode: HarborMode, hosts: readonly string[] = []): HarborLines => [
    `network_mode = ${JSON.stringify(mode)}`,
    ...(hosts.length === 0 ? [] : [`allowed_hosts = ${JSON.stringify(hosts)}`]),
  ];
  switch (policy.mode) {
    case "none":
      return lines("no-network");
    case "open":
      return lines("public");
    case "gateway-only":
      return lines("allowlist", ["model-gateway.ale.internal"]);
    case "allowlist":
      return lines("allowlist", [
        ...policy.hosts.map(({ name }) => name),
        ...policy.addresses.map((rule) => rule.network),
      ]);
    default:
      return policy satisfies never;
  }
}
