import type { NetworkPolicy } from "@ale/core";
import type { Io } from "../io.ts";

/** The network of a sandbox as options of a command line. What they mean is only read where one is given. */

export const NETWORK_OPTIONS = {
  network: {
    type: "string",
    value: "MODE",
    help: "what may leave it: none, allowlist, gateway-only, open (unsafe: everything)",
  },
  allow: {
    type: "string",
    value: "HOST[:PORT]",
    multiple: true,
    help: "pypi.org, *.example.org:443, 192.0.2.0/24:5432; may be repeated, and is an allowlist",
  },
} as const;

interface Values {
  readonly network: string | undefined;
  readonly allow: readonly string[] | undefined;
}

/** Undefined where neither is given. Warns of `open`. Throws `usage`. */
export async function networkAsked(values: Values, io: Io): Promise<NetworkPolicy | undefined> {
  if (values.network === undefined && (values.allow ?? []).length === 0) return undefined;
  const { networkOption } = await import("../network-options.ts");
  const network = networkOption(values);
  if (network?.mode === "open") io.note(io.paint("yellow", OPEN_WARNING));
  return network;
}

const OPEN_WARNING =
  "warning: with --network open the sandbox reaches the whole internet from this server's address; it is recorded, not stopped";
