import type { Alert, Event, Response, Telemetry } from "@ale/core";
import { rankOf } from "./ledger.ts";

/** What guard says to one thing that happened. */
export interface Judgement {
  /** `file.change`, `telemetry`, `alert`, `guard.totals`: in the order in which they belong into the log. */
  readonly events: readonly Event[];
  readonly alerts: readonly Alert[];
  /** What is to be done beyond recording, the hardest first. */
  readonly decisions: readonly Decision[];
  /** Records that cannot be judged. They are in no event: whoever asked decides what becomes of them. */
  readonly refused: readonly RefusedRecord[];
}

export interface Decision {
  readonly alert: Alert;
  readonly response: Response;
  /** The rule's. */
  readonly title: string;
  /** For the agent to read. */
  readonly text: string;
}

export interface RefusedRecord {
  readonly record: Telemetry;
  readonly reason: "other-sandbox" | "other-episode" | "from-the-future" | "no-time";
}

export const NOTHING: Judgement = { events: [], alerts: [], decisions: [], refused: [] };

export const hardestFirst = (decisions: readonly Decision[]): readonly Decision[] =>
  decisions.length < 2 ? decisions : decisions.toSorted((a, b) => rankOf(b.response) - rankOf(a.response));

export function joined(parts: readonly Judgement[]): Judgement {
  return {
    events: parts.flatMap(({ events }) => events),
    alerts: parts.flatMap(({ alerts }) => alerts),
    decisions: hardestFirst(parts.flatMap(({ decisions }) => decisions)),
    refused: parts.flatMap(({ refused }) => refused),
  };
}
