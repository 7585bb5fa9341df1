import { type LogScan, scanEpisodeLog } from "@ale/core";
import { defineUsage, parseArguments } from "../args.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { type EpisodeFile, episodeFiles, findEpisode } from "../runs.ts";

const usage = defineUsage({
  positionals: "[EPISODE...]",
  options: { run: { type: "string", value: "NAME", help: "only the episodes of this run" } },
  notes: `
Reads every line of every log, recomputes its hash and its place in the chain, and names the first broken line of each
broken log. Without EPISODE all of them. Exits 1 when a log is broken. A log that is not sealed is not broken: it may be
running, or was cut off and goes on when its run does.`,
});

interface Fault {
  readonly line: number;
  readonly reason: string;
  readonly detail: string;
}

export const episodesVerify: Command = {
  name: "episodes verify",
  summary: "check the hash chains of recorded episodes; names the first broken line",
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const files =
      positionals.length === 0
        ? await episodeFiles(io.home, values.run)
        : await Promise.all(positionals.map((word) => findEpisode(io.home, word, values.run)));
    const broken: (Fault & { readonly episode: string; readonly path: string })[] = [];
    let sealed = 0;
    let events = 0;
    for (const [i, file] of files.entries()) {
      signal.throwIfAborted();
      io.progress.status(`verifying ${i + 1} of ${files.length}`);
      const scan = await scanEpisodeLog(file.path);
      events += scan.log.entries.length;
      const fault = faultOf(scan, file);
      if (fault === null) {
        if (scan.log.sealed) sealed++;
        continue;
      }
      broken.push({ episode: file.id, path: file.path, ...fault });
      io.print(`${io.paint("red", "broken")} ${file.path}, line ${fault.line}: ${fault.reason}`);
      io.print(`       ${fault.detail}`);
    }
    const intact = files.length - broken.length;
    io.print(
      `${files.length} logs, ${events} events: ${intact} intact (${sealed} of them sealed), ${broken.length} broken`,
    );
    io.result({ ok: broken.length === 0, logs: files.length, events, intact, sealed, broken });
    return broken.length > 0 ? EXIT.failed : EXIT.ok;
  },
};

function faultOf({ log, fault }: LogScan, file: EpisodeFile): Fault | null {
  if (fault !== null) return fault;
  if (log.tornBytes > 0)
    return {
      line: log.entries.length + 1,
      reason: "torn-tail",
      detail: `${log.tornBytes} bytes without a newline: a line being written, or cut off by a crash; resuming the run repairs it`,
    };
  // A sound log under another episode's name passes every hash; only its first line tells.
  const begin = log.events[0];
  if (file.run !== null && begin?.type === "episode.begin" && begin.episode !== file.id)
    return {
      line: 1,
      reason: "wrong-name",
      detail: `the file is named ${file.id} but holds episode ${begin.episode}`,
    };
  return null;
}
