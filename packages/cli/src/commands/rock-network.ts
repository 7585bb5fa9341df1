import { policyText } from "@ale/rock/client";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withRock } from "../rock/client.ts";
import { NETWORK_OPTIONS, networkAsked } from "../rock/network.ts";

const usage = defineUsage({
  positionals: "ID [MODE]",
  options: {
    allow: NETWORK_OPTIONS.allow,
    "end-open": { type: "boolean", help: "end connections that are open, also those still allowed" },
  },
  notes: `
Prints the network policy of a sandbox; with MODE or --allow gives it another one, from the next connection on. MODE is none, allowlist,
gateway-only (the model gateway alone) or open. With none there is no interface at all.
example: ale rock network $box --allow pypi.org --allow files.pythonhosted.org; ale rock network $box none`,
});

export const rockNetwork: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const [id = "", mode] = positionals;
    const policy = await networkAsked({ network: mode, allow: values.allow }, io);
    if (policy === undefined && values["end-open"])
      throw usageError("--end-open goes with a change", `ale rock network ${id} none`);
    const network = await withRock(io, async (client) => {
      if (policy === undefined) return (await client.sandboxes.get(id)).network;
      const sandbox = await client.sandboxes.attach(id);
      await sandbox.setNetwork(policy, { endOpen: values["end-open"] }, signal);
      return sandbox.spec.network;
    });
    io.print(policyText(network));
    io.result({ sandbox: id, network });
    return EXIT.ok;
  },
};
