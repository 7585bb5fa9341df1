import { type EpisodeQuery, type EpisodeSummary, Purpose } from "@ale/core";
import { defineUsage, oneOf, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { listRuns, openIndex } from "../runs.ts";
import { table } from "../table.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    run: { type: "string", value: "NAME", help: "only this run" },
    family: { type: "string", value: "NAME", help: "only this family of tasks" },
    purpose: { type: "string", value: "PURPOSE", help: "only train, eval, demo or user" },
    version: { type: "string", value: "N", help: "only this policy version" },
    reward: { type: "string", value: "R", help: "only this reward, or a range: 1, 0..0.5, 0.5.." },
    violation: { type: "boolean", help: "only episodes with an alert of severity high or above" },
    clean: { type: "boolean", help: "only episodes without one" },
    unsealed: { type: "boolean", help: "only episodes that are running or were cut off" },
    limit: { type: "string", value: "N", help: "at most so many, the newest first (default 30; 0: all)" },
  },
  notes: `
example: ale episodes ls --family port --purpose eval --reward 0`,
});

export const episodesLs: Action = {
  usage,
  async run(argv, io, signal) {
    const { values } = parseArguments(usage, argv);
    if (values.violation && values.clean)
      throw usageError("--violation and --clean exclude each other", "choose one");
    const limit = wholeNumber("--limit", values.limit) ?? 30;
    const version = wholeNumber("--version", values.version);
    const purpose = oneOf("--purpose", values.purpose, Purpose.options);
    const query: EpisodeQuery = {
      ...(values.family === undefined ? {} : { family: values.family }),
      ...(purpose === undefined ? {} : { purpose }),
      ...(version === undefined ? {} : { version }),
      ...rewardBounds(values.reward),
      ...(values.violation ? { violation: true } : values.clean ? { violation: false } : {}),
      ...(values.unsealed ? { sealed: false } : {}),
      orderBy: "startedAt",
      descending: true,
      ...(limit > 0 ? { limit } : {}),
    };
    const found: EpisodeSummary[] = [];
    let total = 0;
    for (const run of await listRuns(io.home, values.run)) {
      signal.throwIfAborted();
      io.progress.status(`reading ${run.name}`);
      using index = await openIndex(run);
      found.push(...index.query(query));
      total += index.count(query);
    }
    found.sort((a, b) => (a.startedAt < b.startedAt ? 1 : a.startedAt > b.startedAt ? -1 : 0));
    const shown = limit > 0 ? found.slice(0, limit) : found;
    printTable(shown, total, io);
    io.result({ total, episodes: shown });
    return EXIT.ok;
  },
};

/** `1` or `0..0.5`, either end of a range may be left out. Throws `usage`. */
export function rewardBounds(text: string | undefined): Pick<EpisodeQuery, "minReward" | "maxReward"> {
  if (text === undefined) return {};
  const bound = (part: string): number => {
    const value = Number(part);
    if (part.trim() === "" || !Number.isFinite(value))
      throw usageError(
        `--reward: ${JSON.stringify(text)} is neither a number nor a range`,
        "--reward 1 or --reward 0..0.5",
      );
    return value;
  };
  const [from = "", to] = text.split("..");
  if (to === undefined) return { minReward: bound(from), maxReward: bound(from) };
  return {
    ...(from === "" ? {} : { minReward: bound(from) }),
    ...(to === "" ? {} : { maxReward: bound(to) }),
  };
}

function printTable(episodes: readonly EpisodeSummary[], total: number, io: Io): void {
  if (episodes.length === 0) {
    io.print(`no such episodes in ${io.home}/runs`);
    return;
  }
  const rows = episodes.map((episode) => [
    episode.id,
    episode.run ?? "",
    episode.family,
    episode.purpose,
    episode.version === null ? "-" : String(episode.version),
    rewardText(episode, io),
    String(episode.chunks),
    episode.violation
      ? io.paint("red", `▲ ${episode.maxSeverity}`)
      : episode.alerts > 0
        ? String(episode.alerts)
        : "",
    episode.sealed ? (episode.termination ?? "") : io.paint("yellow", "not sealed"),
  ]);
  const columns = [
    { title: "episode" },
    { title: "run" },
    { title: "family" },
    { title: "purpose" },
    { title: "version", align: "right" as const },
    { title: "reward", align: "right" as const },
    { title: "chunks", align: "right" as const },
    { title: "alerts" },
    { title: "ended" },
  ];
  const [head = "", ...body] = table(columns, rows);
  io.print(io.paint("dim", head));
  for (const line of body) io.print(line);
  const hidden = total - episodes.length;
  io.print("");
  io.print(
    `${total} episodes${hidden > 0 ? `, ${hidden} more with --limit 0` : ""}; look at one: ./ale episodes show ${episodes[0]!.id}`,
  );
}

function rewardText(episode: EpisodeSummary, io: Io): string {
  if (episode.environmentFault !== null) return io.paint("yellow", "fault");
  if (episode.reward === null) return "-";
  return io.paint(
    episode.reward > 0 ? "green" : "dim",
    Number.isInteger(episode.reward) ? String(episode.reward) : episode.reward.toFixed(2),
  );
}
