import { type EpisodeSummary, type Event, readEpisodeLog } from "@ale/core";
import type { ExampleEpisode } from "../report/data.ts";
import { actionLines, evidenceLines } from "../show.ts";

/** Cuts recorded episodes down to what fits on the report's page. The log has all of it. */
export async function exampleOf(title: string, episode: EpisodeSummary): Promise<ExampleEpisode> {
  const { events } = await readEpisodeLog(episode.path);
  const begin = events.find((event) => event.type === "episode.begin");
  return {
    title,
    episode: episode.id,
    family: episode.family,
    instruction: begin?.instance.instruction ?? "",
    chunks: chunksOf(events),
    reward: episode.reward,
  };
}

function chunksOf(events: readonly Event[]): ExampleEpisode["chunks"] {
  const calls = events.filter((event) => event.type === "model.call");
  return calls.map((call) => ({
    action:
      call.malformed === undefined
        ? call.toolCalls.flatMap(actionLines).join("\n")
        : `${call.text} (${call.malformed})`,
    observation: events
      .filter((event) => event.type === "tool.result")
      .filter((result) => result.chunk === call.chunk)
      .map((result) => result.content)
      .join("\n"),
    alerts: events
      .filter((event) => event.type === "alert")
      .filter(({ alert }) => alert.chunk === call.chunk)
      .map(({ alert }) => ({
        rule: alert.rule,
        technique: alert.technique,
        severity: alert.severity,
        evidence: evidenceLines(alert.evidence).join("\n"),
      })),
  }));
}
