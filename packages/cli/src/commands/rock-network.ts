import type { NetworkChange } from "@ale/core";
import { type NetworkView, policyText } from "@ale/rock/client";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { budgetOption, budgetStates, budgetTable } from "../rock/budgets.ts";
import { withRock } from "../rock/client.ts";
import { defined } from "../rock/limits.ts";
import { NETWORK_OPTIONS, networkAsked } from "../rock/network.ts";

const usage = defineUsage({
  positionals: "ID [MODE]",
  options: {
    allow: NETWORK_OPTIONS.allow,
    budget: NETWORK_OPTIONS.budget,
    "host-budget": NETWORK_OPTIONS["host-budget"],
    "reset-budgets": {
      type: "boolean",
      help: "forget what was used; the limits stay, unless others are given",
    },
    "end-open": { type: "boolean", help: "end connections that are open, also those still allowed" },
  },
  notes: `
Prints the network policy of a sandbox, its budgets, and what was used of them; with MODE or --allow gives it another policy, from the next connection on.
MODE is none, allowlist, gateway-only (the model gateway alone) or open. With none there is no interface at all. Another policy leaves the
budgets and what was used of them as they are: only --budget, --host-budget and --reset-budgets change them.
example: ale rock network $box --allow pypi.org --allow files.pythonhosted.org; ale rock network $box --budget bytes-down=2g; ale rock network $box none`,
});

export const rockNetwork: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const [id = "", mode] = positionals;
    const budgets = defined({
      budget: budgetOption("--budget", values.budget),
      hostBudget: budgetOption("--host-budget", values["host-budget"]),
    });
    const places = { network: mode, allow: values.allow, budget: undefined, "host-budget": undefined };
    const asked = await networkAsked(places, io);
    const onlyBudgets = asked === undefined && (Object.keys(budgets).length > 0 || values["reset-budgets"]);
    if (asked === undefined && !onlyBudgets && values["end-open"])
      throw usageError("--end-open goes with a change", `ale rock network ${id} none`);
    const view = await withRock(io, async (client) => {
      const path = `/sandboxes/${encodeURIComponent(id)}/network`;
      const now = (): Promise<NetworkView> => client.call<NetworkView>({ method: "GET", path });
      const change = asked ?? (onlyBudgets ? (await now()).network : undefined);
      if (change === undefined) return now();
      const sandbox = await client.sandboxes.attach(id);
      const options = { endOpen: values["end-open"], resetBudgets: values["reset-budgets"] };
      await sandbox.setNetwork(withBudgets(change, budgets), options, signal);
      return now();
    });
    for (const line of [policyText(view.network), ...budgetTable(view)]) io.print(line);
    io.result({ sandbox: id, network: view.network, budgets: budgetStates(view) });
    return EXIT.ok;
  },
};

/** What is left out of `network`'s own budgets stays as it is on the server. */
function withBudgets(
  network: NetworkChange,
  { budget, hostBudget }: Pick<Extract<NetworkChange, { mode: "open" }>, "budget" | "hostBudget">,
): NetworkChange {
  if (budget === undefined && hostBudget === undefined) return network;
  if (network.mode === "none")
    throw usageError(
      `${budget === undefined ? "--host-budget" : "--budget"} goes with a network, and the mode is none`,
      "say what may leave: --allow pypi.org",
    );
  return { ...network, ...defined({ budget, hostBudget }) };
}
