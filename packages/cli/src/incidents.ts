import {
  AleError,
  type AlertRow,
  damagedLog,
  type EpisodeLog,
  isAtLeast,
  readLogBytes,
  type Severity,
  scanLogBytes,
} from "@ale/core";
import { type AlarmLine, attemptsOf, type Incident, type IncidentHead, incidentsOf } from "@ale/guard";
import { type AlarmLog, alarmsByEpisode, alarmsOf, readAlarmLog } from "./alarms.ts";
import { listRuns, openIndex } from "./runs.ts";
import { knowledgeOf, type Witness } from "./witnesses.ts";

/** Incidents of recorded episodes: heads from the indexes, whole stories from the logs. Reads only. */
export interface ListedIncident extends IncidentHead {
  readonly run: string;
  /** Of the episode's log. */
  readonly path: string;
}

export interface IncidentQuery {
  readonly run?: string;
  /** Milliseconds since the epoch. */
  readonly since?: number;
  readonly minSeverity?: Severity;
}

export interface IncidentList {
  /** The newest first. */
  readonly incidents: readonly ListedIncident[];
  readonly episodes: number;
  readonly alarms: AlarmLog;
}

export async function listIncidents(
  home: string,
  query: IncidentQuery,
  signal: AbortSignal,
): Promise<IncidentList> {
  const alarms = await readAlarmLog(home);
  const outside = alarmsByEpisode(alarms);
  const incidents: ListedIncident[] = [];
  let episodes = 0;
  for (const run of await listRuns(home, query.run)) {
    signal.throwIfAborted();
    using index = await openIndex(run);
    episodes += index.count();
    const known = outside.size === 0 ? new Set<string>() : new Set(index.query().map(({ id }) => id));
    for (const [episode, rows] of byEpisode(
      index.alerts(),
      [...outside.keys()].filter((id) => known.has(id)),
    ))
      for (const { head } of attemptsOf(episode, rows, outside.get(episode)))
        if (isWanted(head, query)) incidents.push({ ...head, run: run.name, path: run.store.path(episode) });
  }
  incidents.sort((a, b) => b.at - a.at || (a.id < b.id ? -1 : 1));
  return { incidents, episodes, alarms };
}

function byEpisode(
  rows: readonly AlertRow[],
  more: readonly string[],
): ReadonlyMap<string, readonly AlertRow[]> {
  const episodes = new Map<string, AlertRow[]>(more.map((episode) => [episode, []]));
  for (const row of rows) {
    const known = episodes.get(row.episode);
    if (known === undefined) episodes.set(row.episode, [row]);
    else known.push(row);
  }
  return episodes;
}

const isWanted = (head: IncidentHead, { since, minSeverity }: IncidentQuery): boolean =>
  (since === undefined || head.at >= since) &&
  (minSeverity === undefined || isAtLeast(head.severity, minSeverity));

/** The one incident that `word` names: its id, an unambiguous beginning of it, or `last`. Throws `incident-unknown`. */
export async function findIncident(
  home: string,
  word: string,
  signal: AbortSignal,
): Promise<{ readonly listed: ListedIncident; readonly alarms: AlarmLog }> {
  const { incidents, alarms } = await listIncidents(home, {}, signal);
  const unknown = (message: string, next: string): AleError =>
    new AleError("incident-unknown", message, { next });
  if (incidents.length === 0)
    throw unknown(
      `there are no incidents in ${home}/runs`,
      "episodes with alerts make some: ale episodes ls --violation",
    );
  const matches =
    word === "last"
      ? incidents.slice(0, 1)
      : incidents.filter(({ id }) => id.startsWith(word) || id.startsWith(`inc_${word}`));
  if (matches.length === 1) return { listed: matches[0]!, alarms };
  if (matches.length === 0)
    throw unknown(`no incident begins with ${word}`, "ale guard incidents lists them");
  const some = matches.slice(0, 4).map(({ id }) => id);
  throw unknown(`${matches.length} incidents begin with ${word}`, `write more of the id: ${some.join(", ")}`);
}

export interface ReadIncident {
  readonly incident: Incident;
  readonly log: EpisodeLog;
  readonly bytes: Uint8Array;
  readonly alarms: AlarmLog;
  readonly run: string;
  /** What the run's state says of the log. */
  readonly witness: Witness | undefined;
  /** Why the log is not the one that the run used, or that was read before; null when it is, as far as anybody knows. */
  readonly against: string | null;
}

/** Reads an incident's log, with its whole chain checked. Throws `log.damaged`, also where the log no longer has the incident. */
export async function readIncident(home: string, word: string, signal: AbortSignal): Promise<ReadIncident> {
  const { listed, alarms } = await findIncident(home, word, signal);
  // Before the log is: it may be growing.
  const knowledge = await knowledgeOf(home, listed.path);
  const bytes = await readLogBytes(listed.path);
  const { log, fault } = scanLogBytes(listed.path, bytes);
  if (fault !== null) throw damagedLog(listed.path, fault);
  const against = knowledge?.against(log) ?? null;
  const own: readonly AlarmLine[] = alarmsOf(alarms, listed.episode);
  const incident = incidentsOf(log.entries, own).find(({ id }) => id === listed.id);
  if (incident === undefined) throw lostIncident(listed, against);
  const witness = knowledge?.witness(listed.path);
  return { incident, log, bytes, alarms, run: listed.run, witness, against };
}

/** Lines are only ever added: a log that no longer has what was read from it was changed, and the index may be all that still tells. */
const lostIncident = ({ id, path }: ListedIncident, against: string | null): AleError =>
  against === null
    ? new AleError("log.damaged", `${path} has no alert of ${id}, though the index beside the run says so`, {
        next: `the log is as it was when it was read: if ale guard verify ${path} holds, the index was changed`,
      })
    : new AleError("log.damaged", `${path} no longer has the alert of ${id}: ${against}`, {
        next: "the log was changed after it was written: restore it from a copy, or compare with an exported bundle",
      });
