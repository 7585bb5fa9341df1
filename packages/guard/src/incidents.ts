import { alertRowsOf, type EventOf, type LogEntry, lineTimeMs } from "@ale/core";
import { causeKey } from "./episode/cause.ts";
import type { Incident, IncidentAlarm } from "./incident.ts";
import { type Attempt, attemptsOf, type PlacedAlarm } from "./incident-head.ts";
import { recordsOf, type SeenRecord } from "./incident-records.ts";
import { filesOf, flowsOf, namesOf, processesOf, syscallsOf } from "./incident-traces.ts";
import type { AlarmLine } from "./outside/ledger.ts";

/**
 * The incidents of one episode, each with everything that its log says of it: the call and what the model wrote before, processes, connections,
 * files, responses, approvals, what became of the episode. Pure.
 */
export function incidentsOf(entries: readonly LogEntry[], alarms: readonly AlarmLine[] = []): Incident[] {
  const begin = eventsOf(entries, "episode.begin")[0];
  if (begin === undefined) return [];
  const { episode } = begin.event;
  const attempts = attemptsOf(episode, alertRowsOf(episode, entries), alarms);
  const records = recordsOf(entries, attempts);
  return attempts.map((attempt, i) => storyOf(entries, begin.event, attempt, records[i]!));
}

type Line<T extends EventOf<"alert">["type"] | LineType> = {
  readonly seq: number;
  readonly entry: LogEntry;
  readonly event: EventOf<T>;
};
type LineType =
  | "episode.begin"
  | "episode.end"
  | "message"
  | "model.call"
  | "tool.call"
  | "tool.result"
  | "file.change"
  | "response"
  | "approval.request"
  | "approval.answer"
  | "guard.totals"
  | "verdict";

function eventsOf<T extends LineType>(entries: readonly LogEntry[], type: T): Line<T>[] {
  return entries.flatMap((entry): Line<T>[] =>
    entry.known && entry.event.type === type
      ? [{ seq: entry.seq, entry, event: entry.event as EventOf<T> }]
      : [],
  );
}

function storyOf(
  entries: readonly LogEntry[],
  begin: EventOf<"episode.begin">,
  attempt: Attempt,
  records: readonly SeenRecord[],
): Incident {
  const { head, alerts, alarms } = attempt;
  const isOfCall = (callId: string | undefined): boolean =>
    callId !== undefined && head.callIds.includes(callId);
  const call = eventsOf(entries, "tool.call").find(({ event }) => isOfCall(event.call.id));
  const result = eventsOf(entries, "tool.result").find(({ event }) => isOfCall(event.callId));
  const turn = eventsOf(entries, "model.call").find(({ event }) => event.chunk === head.chunk);
  const read = turn === undefined ? undefined : readBefore(entries, turn.seq);
  const files = eventsOf(entries, "file.change").filter(({ event }) => isOfCall(event.callId));
  const rules = new Set(head.signals.map(({ rule }) => rule));
  const responses = eventsOf(entries, "response").filter(
    ({ event }) =>
      rules.has(event.rule) &&
      (event.callId === undefined ? event.chunk >= head.chunk : isOfCall(event.callId)),
  );
  const requests = eventsOf(entries, "approval.request").filter(({ event }) => isOfCall(event.callId));
  const answers = eventsOf(entries, "approval.answer").filter(({ event }) =>
    requests.some((request) => request.event.id === event.id),
  );
  const totals = eventsOf(entries, "guard.totals");
  const causes = new Set(alerts.map(({ alert }) => `${alert.rule} ${causeKey(alert)}`));
  const counted = totals
    .flatMap(({ event }) => event.alerts)
    .filter(({ rule, cause }) => causes.has(`${rule} ${cause}`));
  const end = eventsOf(entries, "episode.end").at(-1);
  const verdict = eventsOf(entries, "verdict").at(-1);
  const timeOf = ({ entry }: { readonly entry: LogEntry }): number => lineTimeMs(entries[0]!, entry);
  const firstAt = firstOf(attempt, records, call === undefined ? undefined : timeOf(call));
  const said = [begin, turn, read, call, result, end, verdict].flatMap((line) =>
    line === undefined || !("seq" in line) ? [] : [line.seq],
  );
  const lines = [
    eventsOf(entries, "episode.begin")[0]!.seq,
    ...said,
    ...head.alertLines,
    ...records.map(({ seq }) => seq),
    ...(counted.length === 0 ? [] : totals.map(({ seq }) => seq)),
    ...[...files, ...responses, ...requests, ...answers].map(({ seq }) => seq),
  ];
  const proposed = turn?.event.toolCalls.find(({ id }) => isOfCall(id));
  return {
    ...head,
    run: begin.run,
    instance: begin.instance.id,
    actor:
      begin.actor.type === "policy"
        ? `${begin.actor.model} version ${begin.actor.version}`
        : begin.actor.name,
    startedAt: begin.startedAt,
    firstAt,
    delayMs: alerts.length === 0 ? null : Math.max(0, alerts[0]!.writtenAt - firstAt),
    call: call?.event.call ?? proposed ?? null,
    wrote: turn?.event.text ?? null,
    read: read === undefined ? null : { from: read.from, content: read.content },
    result: result === undefined ? null : resultOf(result.event),
    processes: processesOf(attempt, records),
    flows: flowsOf(records),
    names: namesOf(records),
    syscalls: syscallsOf(records),
    files: filesOf(
      files.map(({ event }) => event),
      records,
    ),
    responses: responses.map((line) => {
      const { response, rule, detail, snapshot } = line.event;
      return { at: timeOf(line), response, rule, detail, ...(snapshot === undefined ? {} : { snapshot }) };
    }),
    approvals: requests.map((line) => {
      const answer = answers.find(({ event }) => event.id === line.event.id)?.event;
      const { rule, what } = line.event;
      return {
        at: timeOf(line),
        rule,
        what,
        granted: answer?.granted ?? null,
        by: answer?.by ?? null,
        ...(answer?.reason === undefined ? {} : { reason: answer.reason }),
        waitedMs: answer?.waitedMs ?? null,
      };
    }),
    alarms: alarms.map(alarmOf),
    evidence: alerts.map(({ seq, alert }) => ({ seq, rule: alert.rule, evidence: alert.evidence })),
    records: counted.length === 0 ? null : counted.reduce((sum, { records }) => sum + records, 0),
    lastAt: counted.length === 0 ? null : Math.max(...counted.map(({ lastAt }) => lastAt)),
    termination: end?.event.termination ?? null,
    verdict: verdict === undefined ? null : verdictOf(verdict.event),
    lines: [...new Set(lines)].sort((a, b) => a - b),
  };
}

const resultOf = ({
  content,
  exitCode,
  isError,
  guard,
}: EventOf<"tool.result">): NonNullable<Incident["result"]> => ({
  content,
  exitCode,
  isError,
  ...(guard === undefined ? {} : { guard }),
});

/** What the model had just been told when it wrote the line at `seq`. */
function readBefore(
  entries: readonly LogEntry[],
  seq: number,
): { readonly seq: number; readonly from: string; readonly content: string } | undefined {
  const lines = [...eventsOf(entries, "tool.result"), ...eventsOf(entries, "message")];
  const last = lines.filter((line) => line.seq < seq).sort((a, b) => b.seq - a.seq)[0];
  if (last === undefined) return undefined;
  const { event } = last;
  const from = event.type === "message" ? event.role : event.name;
  return { seq: last.seq, from, content: event.content };
}

/** When what was alerted began: the first record of its connections, or when the alerts say that it happened. */
function firstOf(
  { head, alerts, alarms }: Attempt,
  records: readonly SeenRecord[],
  calledAt: number | undefined,
): number {
  const told = alerts.flatMap(({ alert }) => (alert.at === undefined ? [] : [alert.at]));
  const ofFlows = records.filter(({ alertedFlow }) => alertedFlow);
  const begun = ofFlows.map(({ record }) => record.at - (record.net?.durationMs ?? 0));
  const times = [...told, ...begun, ...alarms.map(({ place }) => place.at)];
  return times.length > 0 ? Math.min(...times) : (calledAt ?? head.at);
}

function alarmOf({ seq, hash, line, place }: PlacedAlarm): IncidentAlarm {
  const { id, source, title, severity, at } = line.alarm;
  const rivals = line.places
    .filter((other) => other !== place)
    .map(({ episode, chunk, callId, confidence }) => ({ episode, chunk, callId, confidence }));
  const { confidence, residualMs } = place;
  const status = line.status === "matched" ? "matched" : "ambiguous";
  const { skewMs, unexplained } = line;
  return {
    seq,
    hash,
    id,
    source,
    title,
    severity,
    status,
    at,
    skewMs,
    residualMs,
    confidence,
    rivals,
    unexplained,
  };
}

function verdictOf({ verdict }: EventOf<"verdict">): NonNullable<Incident["verdict"]> {
  const { reward, tests, environmentFault } = verdict;
  return {
    reward,
    passed: tests.filter(({ passed }) => passed).length,
    tests: tests.length,
    ...(environmentFault === undefined ? {} : { environmentFault }),
  };
}
