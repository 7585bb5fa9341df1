import { type LogScan, scanEpisodeLog } from "@ale/core";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { printable } from "../printable.ts";
import { type EpisodeFile, episodeFiles, findEpisode } from "../runs.ts";
import { lastWritten, SEALED } from "../seal.ts";
import { contradiction, goneEpisodes, type Witness, witnessesOf } from "../witnesses.ts";

const usage = defineUsage({
  positionals: "[EPISODE...]",
  options: {
    run: { type: "string", value: "NAME", help: "only the episodes of this run" },
    sealed: SEALED,
  },
  notes: `
Reads every line of every log, recomputes its hash and its place in the chain, and names the first broken line of each
broken log. Then it compares with what each run's state says: an episode that was learnt from or evaluated must still be there,
sealed, and end with the same hash. Without EPISODE all of them. Exits 1 when a log is broken or gone. A log that is not sealed is not
broken and not whole: its episode may still run, may have been killed, or its end was cut off. Each is named, and is a failure with --sealed.`,
});

interface Fault {
  readonly line: number;
  readonly reason: string;
  readonly detail: string;
}

export const episodesVerify: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const files =
      positionals.length === 0
        ? await episodeFiles(io.home, values.run)
        : await Promise.all(positionals.map((word) => findEpisode(io.home, word, values.run)));
    const witnesses = await witnessesOf(io.home, values.run);
    const broken: (Fault & { readonly episode: string; readonly path: string })[] = [];
    const unsealed: { readonly episode: string; readonly path: string; readonly lines: number }[] = [];
    let sealed = 0;
    let events = 0;
    for (const [i, file] of files.entries()) {
      signal.throwIfAborted();
      io.progress.status(`verifying ${i + 1} of ${files.length}`);
      const scan = await scanEpisodeLog(file.path);
      events += scan.log.entries.length;
      const fault = faultOf(scan, file, witnesses.get(file.path));
      if (fault === null) {
        if (scan.log.sealed) sealed++;
        else {
          unsealed.push({ episode: file.id, path: file.path, lines: scan.log.entries.length });
          io.print(`${io.paint("yellow", "unsealed")} ${file.path}: ${lastWritten(scan.log)}`);
        }
        continue;
      }
      broken.push({ episode: file.id, path: file.path, ...fault });
      io.print(`${io.paint("red", "broken")} ${file.path}, line ${fault.line}: ${fault.reason}`);
      io.print(`       ${printable(fault.detail)}`);
    }
    const intact = files.length - broken.length;
    for (const { id, path, run } of positionals.length === 0 ? goneEpisodes(witnesses) : []) {
      broken.push({ episode: id, path, ...GONE });
      io.print(`${io.paint("red", "gone")}   ${path}: run ${run} used this episode`);
    }
    io.print(
      `${files.length} logs, ${events} events: ${sealed} whole, ${unsealed.length} not sealed${unsealed.length > 0 ? " (the end may be missing)" : ""}, ${broken.length} broken or gone`,
    );
    const ok = broken.length === 0 && !(values.sealed && unsealed.length > 0);
    io.result({ ok, logs: files.length, events, intact, sealed, unsealed, broken });
    return ok ? EXIT.ok : EXIT.failed;
  },
};

const GONE: Fault = { line: 0, reason: "gone", detail: "the run's state names this episode" };

function faultOf({ log, fault }: LogScan, file: EpisodeFile, witness: Witness | undefined): Fault | null {
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
  const detail = contradiction(witness, log);
  if (detail !== null) return { line: log.entries.length, reason: "not-as-used", detail };
  return log.entries.length > 0 ? null : { line: 0, reason: "empty", detail: "there is nothing in it" };
}
