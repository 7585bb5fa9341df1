import { NetworkChange, parseIp, parseNetwork } from "@ale/core";
import { oneOf, usageError } from "./args.ts";

/** `--network MODE --allow HOST…`: what may leave a sandbox, from the command line. */

export const NETWORK_OPTIONS = {
  network: {
    type: "string",
    value: "MODE",
    help: "what may leave the sandbox: none, allowlist, gateway-only, or open (unsafe: everything, recorded); default: the task's own",
  },
  allow: {
    type: "string",
    value: "HOST[:PORT]",
    multiple: true,
    help: "with an allowlist: this host (pypi.org, *.example.org; ports 80 and 443), or an address with a port (192.0.2.0/24:5432)",
  },
} as const;

/** Undefined where nothing is allowed. Throws `usage` for what is no host. */
export const allowlistOption = (option: string, allow: readonly string[] = []): NetworkChange | undefined =>
  allow.length === 0 ? undefined : allowlistOf(option, allow);

/** Undefined where neither option is given. Throws `usage` where they contradict each other or name no host. */
export function networkOption(values: {
  readonly network: string | undefined;
  readonly allow: readonly string[] | undefined;
}): NetworkChange | undefined {
  const allow = values.allow ?? [];
  if (values.network === undefined && allow.length === 0) return undefined;
  const modes = NetworkChange.options.map(({ shape }) => shape.mode.value);
  const mode = oneOf("--network", values.network, modes) ?? "allowlist";
  if (mode !== "allowlist") {
    if (allow.length > 0)
      throw usageError(`--allow goes with --network allowlist, not with ${mode}`, "leave one of them out");
    return NetworkChange.parse({ mode });
  }
  if (allow.length === 0)
    throw usageError("--network allowlist allows nothing by itself", "--allow pypi.org, as often as needed");
  return allowlistOf("--allow", allow);
}

function allowlistOf(option: string, allow: readonly string[]): NetworkChange {
  const places = allow.map((text) => placeOf(option, text));
  const parsed = NetworkChange.safeParse({
    mode: "allowlist",
    hosts: places.flatMap((place) => ("name" in place ? [place] : [])),
    addresses: places.flatMap((place) => ("network" in place ? [place] : [])),
  });
  if (parsed.success) return parsed.data;
  throw usageError(`${option}: ${parsed.error.issues[0]!.message}`);
}

type Place =
  | { readonly name: string; readonly ports?: readonly number[] }
  | {
      readonly network: string;
      readonly ports: readonly number[];
    };

function placeOf(option: string, text: string): Place {
  const match = /^(?:\[(?<bracketed>[^\]]+)\](?<prefix>\/\d+)?|(?<plain>[^:]+))(?::(?<port>\d+))?$/.exec(
    text,
  );
  const { bracketed, prefix = "", plain, port } = match?.groups ?? {};
  const host = bracketed === undefined ? plain : bracketed + prefix;
  if (host === undefined)
    throw usageError(
      `${option}: ${JSON.stringify(text)} is no host or address`,
      "pypi.org, *.example.org:443, 192.0.2.7:5432; no scheme or path",
    );
  const network = parseNetwork(host);
  if (network?.v6)
    throw usageError(
      `${option}: ${host} is an IPv6 address, and sandboxes have IPv4 only: IPv6 does not leave them`,
      "name its IPv4 address, or its host name",
    );
  if (parseIp(host) === undefined && network === undefined)
    return { name: host, ...(port === undefined ? {} : { ports: [Number(port)] }) };
  if (port === undefined)
    throw usageError(`${option}: the address ${host} needs a port`, `${option} ${text}:443`);
  return { network: host, ports: [Number(port)] };
}
