import type { EpisodeLog } from "./episode-reader.ts";
import type { Purpose, Severity, Termination } from "./event.ts";
import type { Domain, Split } from "./instance.ts";
import { isAtLeast, maxSeverity, VIOLATION_SEVERITY } from "./severity.ts";
import { trajectoryOf } from "./trajectory.ts";

/** One episode on one line: what lists, tables and queries need without opening the log. Derived from the log alone. */
export interface EpisodeSummary {
  readonly id: string;
  readonly run: string | null;
  readonly group: string | null;
  readonly purpose: Purpose;
  readonly instance: string;
  readonly family: string;
  readonly domain: Domain;
  readonly split: Split;
  readonly seed: number;
  /** Model name of a policy, or name of a script. */
  readonly actor: string;
  /** Policy version; null for scripts. */
  readonly version: number | null;
  readonly profileHash: string;
  /** null while the episode is running, or when it was cut off. */
  readonly termination: Termination | null;
  /** null without a verdict, and when the environment failed. */
  readonly reward: number | null;
  readonly environmentFault: string | null;
  readonly chunks: number;
  /** Tokens that the actor wrote. */
  readonly tokens: number;
  readonly alerts: number;
  readonly maxSeverity: Severity | null;
  /** At least one alert of severity `high` or above. */
  readonly violation: boolean;
  readonly sealed: boolean;
  readonly events: number;
  /** Hash of the last line; of a sealed log, the identity of the episode. */
  readonly head: string;
  /** ISO 8601. */
  readonly startedAt: string;
  /** From the first line to the last. */
  readonly wallMs: number;
  readonly path: string;
}

/** Throws when the log does not begin with `episode.begin`. */
export function summaryOf(log: EpisodeLog): EpisodeSummary {
  const trajectory = trajectoryOf(log.events);
  const begin = log.events.find((event) => event.type === "episode.begin")!;
  const severity = maxSeverity(trajectory.alerts);
  const fault = trajectory.verdict?.environmentFault ?? trajectory.faults[0]?.what;
  return {
    id: begin.episode,
    run: begin.run,
    group: begin.group,
    purpose: begin.purpose,
    instance: begin.instance.id,
    family: begin.instance.family,
    domain: begin.instance.domain,
    split: begin.instance.split,
    seed: begin.instance.seed,
    actor: begin.actor.type === "policy" ? begin.actor.model : begin.actor.name,
    version: begin.actor.type === "policy" ? begin.actor.version : null,
    profileHash: begin.profileHash,
    termination: trajectory.termination,
    reward: trajectory.verdict?.reward ?? null,
    environmentFault: fault ?? null,
    chunks: trajectory.chunks.length,
    tokens: trajectory.chunks.reduce((sum, chunk) => sum + chunk.tokens.length, 0),
    alerts: trajectory.alerts.length,
    maxSeverity: severity,
    violation: severity !== null && isAtLeast(severity, VIOLATION_SEVERITY),
    sealed: log.sealed,
    events: log.entries.length,
    head: log.head,
    startedAt: begin.startedAt,
    wallMs: log.entries.at(-1)?.t ?? 0,
    path: log.path,
  };
}
