import { readEpisodeLog, summaryOf } from "@ale/core";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { returnsOf } from "../returns.ts";
import { findEpisode } from "../runs.ts";
import { renderEpisode } from "../show.ts";

const usage = defineUsage({
  positionals: "EPISODE",
  options: {
    run: { type: "string", value: "NAME", help: "look only in this run" },
    full: { type: "boolean", help: "show observations of any length" },
  },
  notes: `
EPISODE is an id, an unambiguous beginning of one, "last", or the path of a log.
Under --json the result is {summary, returns, entries}: entries are the lines of the log as they were recorded; returns are what IPA gave each
chunk of a training episode, worked out again from the run's recipe, or null.`,
});

const OBSERVATION_LINES = 20;

export const episodesShow: Action = {
  usage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(usage, argv);
    const file = await findEpisode(io.home, positionals[0]!, values.run);
    const log = await readEpisodeLog(file.path);
    const returns = await returnsOf(log);
    if (!io.json) {
      const lines = renderEpisode(log, {
        width: Math.min(io.width, 110),
        paint: io.paint,
        maxLines: values.full ? 0 : OBSERVATION_LINES,
        ...(returns === null ? {} : { returns }),
      });
      for (const line of lines) io.print(line);
    }
    io.result({
      summary: summaryOf(log),
      returns: returns && Object.fromEntries(returns),
      entries: log.entries,
    });
    return EXIT.ok;
  },
};
