import { resetHome } from "@ale/rock";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";

const usage = defineUsage({
  positionals: "",
  options: {},
  notes: `
Ends and removes all sandboxes and snapshots of this home, stopped and kept ones too, with their files; asks for --yes. Afterwards
nothing of the home runs or is mounted, and its directory can be removed as any other (rm -rf). Images, tokens and the audit log stay.
End its server first.`,
});

export const rockReset: Action = {
  usage,
  async run(argv, io) {
    parseArguments(usage, argv);
    if (!io.yes)
      throw usageError(
        `every sandbox and snapshot of ${io.home} would be removed with its files`,
        "say so: ale rock reset --yes",
      );
    const { sandboxes, snapshots } = await resetHome(io.home);
    io.print(`${sandboxes.length} sandboxes and ${snapshots.length} snapshots removed`);
    io.print(`nothing of ${io.home} runs or is mounted`);
    io.result({ sandboxes, snapshots });
    return EXIT.ok;
  },
};
