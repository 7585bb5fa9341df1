import { appendAlarms, importing } from "../alarms.ts";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { matchAgain } from "../match-again.ts";
import { sayMatched } from "../show-import.ts";

/** `ale guard match`: alarms that were imported before their episode was recorded. */

const usage = defineUsage({
  positionals: "",
  options: {},
  notes: `
Compares imported alarms that are not matched yet with what is recorded now; ale guard import does so too. What lands elsewhere than before is added to
the log of alarms, as a line that takes the place of the earlier one; what was matched once stays. Exits 1 where an episode's log cannot be read.`,
});

export const guardMatch: Action = {
  usage,
  async run(argv, io, signal) {
    parseArguments(usage, argv);
    return importing(io.home, async (log) => {
      const again = await matchAgain(log, io, signal, true);
      if (again.entries.length > 0) await appendAlarms(log, again.entries);
      return sayMatched(again, log.alarms.length, io);
    });
  },
};
