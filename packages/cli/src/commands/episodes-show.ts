import { readEpisodeLog, summaryOf } from "@ale/core";
import { defineUsage, parseArguments } from "../args.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
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
Under --json the result is {summary, entries}: every line of the log as it was recorded.`,
});

const OBSERVATION_LINES = 20;

export const episodesShow: Command = {
  name: "episodes show",
  summary: "follow one episode chunk by chunk: actions, observations, alerts, verdict",
  usage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(usage, argv);
    const file = await findEpisode(io.home, positionals[0]!, values.run);
    const log = await readEpisodeLog(file.path);
    if (!io.json) {
      const lines = renderEpisode(log, {
        width: Math.min(io.width, 110),
        paint: io.paint,
        maxLines: values.full ? 0 : OBSERVATION_LINES,
      });
      for (const line of lines) io.print(line);
    }
    io.result({ summary: summaryOf(log), entries: log.entries });
    return EXIT.ok;
  },
};
