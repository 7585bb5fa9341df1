import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { readIncident } from "../incidents.ts";
import { RULE_PACKS, rulesInWords } from "../rule-titles.ts";
import { renderIncident } from "../show-incident.ts";

/** `ale guard show`: one incident from alarm to command. */

const usage = defineUsage({
  positionals: "ID",
  options: { full: { type: "boolean", help: "show texts of any length" }, rules: RULE_PACKS },
  notes: `
ID is an incident's, an unambiguous beginning of one, or "last". What the agent wrote is shown with its control characters made visible.
Exits 1 where its log is not the one that was read before, or that the run used; that is said at its end. Under --json the result is the incident
(docs/reference/evidence-bundle.md) with the path, the last hash and the state of its log.`,
});

const TEXT_LINES = 12;

export const guardShow: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const { incident, log, against } = await readIncident(io.home, positionals[0]!, signal);
    const ruleOf = rulesInWords(values.rules);
    const lines = renderIncident(incident, {
      width: Math.min(io.width, 100),
      paint: io.paint,
      titleOf: (rule) => ruleOf(rule)?.title,
      log,
      against,
      maxLines: values.full ? 0 : TEXT_LINES,
    });
    for (const line of lines) io.print(line);
    io.result({
      ok: against === null,
      incident,
      log: { path: log.path, head: log.head, sealed: log.sealed, against },
    });
    return against === null ? EXIT.ok : EXIT.failed;
  },
};
