import { NetworkChange } from "@ale/core";
import { oneOf, usageError } from "./args.ts";
import { placeOf } from "./network-place.ts";

/** `--network MODE --allow HOST… --model-gateway HOST:PORT`: what may leave a sandbox, from the command line. */

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

export const MODEL_GATEWAY_OPTION = {
  type: "string",
  value: "HOST:PORT",
  help: "where http://model-gateway.ale.internal leads, for sandboxes that may reach it",
} as const;

/** As `egress` of a driver. Throws `usage`. */
export function modelGatewayOption(text: string | undefined): {
  readonly modelGateway?: { readonly host: string; readonly port: number };
} {
  if (text === undefined) return {};
  const match = /^(?:\[(?<v6>[^\]]+)\]|(?<host>[^:/]+)):(?<port>\d{1,5})$/.exec(text);
  const host = match?.groups?.v6 ?? match?.groups?.host;
  const port = Number(match?.groups?.port);
  if (host === undefined || port < 1 || port > 65_535)
    throw usageError(
      `--model-gateway: ${JSON.stringify(text)} is no HOST:PORT`,
      "write it as 127.0.0.1:8100",
    );
  return { modelGateway: { host, port } };
}

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
      throw usageError(
        `--allow ${allow[0]} goes with --network allowlist, not with ${mode}`,
        "leave one of them out",
      );
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
  throw usageError(`${option}: ${parsed.error.issues[0]!.message}`, `${option} pypi.org:443`);
}
