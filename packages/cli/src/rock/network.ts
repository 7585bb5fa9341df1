import type { NetworkChange } from "@ale/core";
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
  budget: {
    type: "string",
    value: "NAME=N",
    multiple: true,
    help: "what it may use of the network: bytes-up=10m,bytes-down=1g,connections=100,requests=500",
  },
  "host-budget": {
    type: "string",
    value: "NAME=N",
    multiple: true,
    help: "the same for each single host (default: as much as the whole sandbox)",
  },
} as const;

export interface NetworkValues {
  readonly network: string | undefined;
  readonly allow: readonly string[] | undefined;
  readonly budget: readonly string[] | undefined;
  readonly "host-budget": readonly string[] | undefined;
}

/** Undefined where none is given. Warns of `open`. Throws `usage`. */
export async function networkAsked(values: NetworkValues, io: Io): Promise<NetworkChange | undefined> {
  if (Object.values(values).every((value) => value === undefined)) return undefined;
  const { networkOption } = await import("../network-options.ts");
  const { budgetOption } = await import("./budgets.ts");
  const budget = budgetOption("--budget", values.budget);
  const hostBudget = budgetOption("--host-budget", values["host-budget"]);
  const network = networkOption(values);
  if (budget === undefined && hostBudget === undefined) return warned(network, io);
  if (network === undefined || network.mode === "none") {
    const { usageError } = await import("../args.ts");
    const option = budget === undefined ? "--host-budget" : "--budget";
    throw usageError(`${option} goes with a network`, "say what may leave: --allow pypi.org");
  }
  return warned({ ...network, ...(budget && { budget }), ...(hostBudget && { hostBudget }) }, io);
}

function warned(network: NetworkChange | undefined, io: Io): NetworkChange | undefined {
  if (network?.mode === "open") io.note(io.paint("yellow", OPEN_WARNING));
  return network;
}

const OPEN_WARNING =
  "warning: with --network open the sandbox reaches the whole internet from this server's address; it is recorded, not stopped";
