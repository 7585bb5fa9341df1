import { openEnvironment } from "@ale/bench";
import { AleError, type Event, readEpisodeLog } from "@ale/core";
import { type ReplayDifference, replayTools } from "@ale/flow";
import { openOciDriver } from "@ale/rock";
import { sandboxRuntime } from "@ale/roll";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { printable } from "../printable.ts";
import { unenforced, WITHOUT_LIMIT } from "../rock/without-limit.ts";
import { findEpisode } from "../runs.ts";
import { actionLines } from "../show.ts";

const usage = defineUsage({
  positionals: "EPISODE",
  options: { run: { type: "string", value: "NAME", help: "look only in this run" }, ...WITHOUT_LIMIT },
  notes: `
Makes the instance's environment anew, runs every recorded tool call in it in order, and compares what the model would have
seen with what it saw. The model is not asked and the log is not changed. Exits 1 when an observation differs: the episode
depended on chance, on time, or on an environment that has changed since.`,
});

export const episodesReplay: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const file = await findEpisode(io.home, positionals[0]!, values.run);
    const { events } = await readEpisodeLog(file.path);
    const begin = events.find((event) => event.type === "episode.begin");
    if (begin === undefined)
      throw new AleError("log.damaged", `${file.path} does not begin with an instance`, {
        next: "choose another episode: ale episodes ls",
      });
    io.progress.status(`replaying ${file.id}`);
    await using driver = openOciDriver({ home: io.home, unenforced: unenforced(values) });
    await using sandbox = await openEnvironment(driver, begin.instance, signal);
    const report = await replayTools(events, sandboxRuntime(sandbox), {}, signal);
    for (const difference of report.differences) printDifference(difference, events, io);
    const same = report.calls - report.differences.length;
    io.print(
      `${file.id}: ${report.calls} tool calls, ${same} observations the same, ${report.differences.length} different`,
    );
    io.result({ ok: report.differences.length === 0, episode: file.id, ...report });
    return report.differences.length === 0 ? EXIT.ok : EXIT.failed;
  },
};

function printDifference(difference: ReplayDifference, events: readonly Event[], io: Io): void {
  const call = events.find((event) => event.type === "tool.call" && event.call.id === difference.callId);
  const action = call?.type === "tool.call" ? actionLines(call.call) : [difference.name];
  io.print(io.paint("bold", `chunk ${difference.chunk}: ${printable(action.join("\n"))}`));
  io.print(quote(io.paint("red", "recorded"), difference.recorded));
  io.print(quote(io.paint("yellow", "replayed"), difference.replayed));
}

const quote = (name: string, content: string | null): string =>
  content === null
    ? `  ${name}: nothing`
    : `  ${name}:\n${printable(content)
        .replace(/\n$/, "")
        .split("\n")
        .map((line) => `    ${line}`)
        .join("\n")}`;
