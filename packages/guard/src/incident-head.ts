import {
  type Alert,
  type AlertRow,
  type Severity,
  severityRank,
  sha256,
  Telemetry,
  type TelemetryProcess,
} from "@ale/core";
import { causeKey } from "./episode/cause.ts";
import type { IncidentHead, IncidentSignal } from "./incident.ts";
import { actKey, type Caused, flowsOf, groupByCause, kinOf } from "./incident-cause.ts";
import type { AlarmLine, AlarmPlace } from "./outside/ledger.ts";

/** Incidents as lists show them, from alerts and alarms alone: no log is opened for it. */

/** An alert with what of its line is needed. */
export type AlertLine = Pick<AlertRow, "seq" | "hash" | "writtenAt" | "alert">;

/** What one incident is made of. */
export interface Attempt {
  readonly head: IncidentHead;
  readonly alerts: readonly AlertLine[];
  readonly alarms: readonly PlacedAlarm[];
}

export interface PlacedAlarm extends AlarmLine {
  readonly place: AlarmPlace;
}

type Member = Caused & {
  readonly command: string | null;
} & (
    | { readonly kind: "alert"; readonly of: AlertLine }
    | { readonly kind: "alarm"; readonly of: PlacedAlarm }
  );

/** Of one episode, in the order in which they were first told of. Alerts in the order of their lines. */
export function attemptsOf(
  episode: string,
  alerts: readonly AlertLine[],
  alarms: readonly AlarmLine[] = [],
): Attempt[] {
  const groups = groupByCause(alerts.map(memberOfAlert));
  for (const member of alarms.flatMap((alarm) => placedIn(episode, alarm)).map(memberOfAlarm)) {
    const kin = kinOf(member, groups);
    if (kin === undefined) groups.push([member]);
    else kin.push(member);
  }
  return groups.flatMap((members) => {
    const ofAlerts = members.flatMap((member) => (member.kind === "alert" ? [member.of] : []));
    const ofAlarms = members.flatMap((member) => (member.kind === "alarm" ? [member.of] : []));
    // What may just as well have been somebody else is no reason to accuse anybody.
    const founded = ofAlerts.length > 0 || ofAlarms.some(({ line }) => line.status === "matched");
    if (!founded) return [];
    return [{ head: headOf(episode, members, ofAlerts, ofAlarms), alerts: ofAlerts, alarms: ofAlarms }];
  });
}

/** An alarm that could be several causes' is shown at each of them; one that is matched, only where it landed. What no chunk did is nobody's. */
function placedIn(episode: string, alarm: AlarmLine): PlacedAlarm[] {
  const { status, places } = alarm.line;
  const shown = status === "matched" ? places.slice(0, 1) : status === "ambiguous" ? places : [];
  return shown
    .filter((place) => place.episode === episode && place.chunk !== null && place.confidence >= 0.1)
    .map((place) => ({ ...alarm, place }));
}

const memberOfAlert = (line: AlertLine): Member => {
  const { chunk, callId, process, evidence } = line.alert;
  const command = typeof evidence.command === "string" ? evidence.command : null;
  // A pattern sees what many connections have in common; that it was set off by one of them does not make them one act.
  const flows = evidence.correlated === undefined ? flowsOf(line.alert) : [];
  const facts = { key: causeKey(line.alert), chunk, callId, process, flows };
  return { ...facts, command, kind: "alert", of: line };
};

const memberOfAlarm = (placed: PlacedAlarm): Member => {
  const { chunk, callId, process, flow } = placed.place;
  return {
    key: actKey(chunk, callId, process, flow),
    chunk: chunk ?? 0,
    callId: callId ?? undefined,
    process,
    flows: flow === null ? [] : [flow],
    command: null,
    kind: "alarm",
    of: placed,
  };
};

function headOf(
  episode: string,
  members: readonly Member[],
  alerts: readonly AlertLine[],
  alarms: readonly PlacedAlarm[],
): IncidentHead {
  // What is not sure may be matched elsewhere later: it names nothing.
  const first = alerts[0] ?? alarms.find(({ line }) => line.status === "matched") ?? alarms[0]!;
  const signals = signalsOf(alerts, alarms);
  const lead = signals[0]!;
  const chunk = members[0]!.chunk;
  const during = alerts.flatMap(({ alert }) => (alert.during === undefined ? [] : [alert.during]));
  return {
    id: `inc_${sha256(`${episode}\n${first.hash}`).slice(0, 12)}`,
    episode,
    chunk,
    during: [...new Set(during)].filter((later) => later !== chunk).sort((a, b) => a - b),
    callIds: [...new Set(members.flatMap(({ callId }) => (callId === undefined ? [] : [callId])))],
    severity: lead.severity,
    rule: lead.rule,
    technique: lead.technique,
    category: lead.category,
    signals,
    what: whatOf(members, lead.rule),
    alertLines: alerts.map(({ seq }) => seq),
    at: alerts[0]?.writtenAt ?? alarms[0]!.place.at,
  };
}

const STRENGTH = ["certain", "ancestry", "interval"] as const;

/** One a rule. First the most severe, then the surest, then what was seen rather than only said, then the earliest. */
function signalsOf(alerts: readonly AlertLine[], alarms: readonly PlacedAlarm[]): IncidentSignal[] {
  const byRule = new Map<string, IncidentSignal>();
  const add = (key: string, signal: Omit<IncidentSignal, "count">): void => {
    const known = byRule.get(key);
    if (known === undefined) byRule.set(key, { ...signal, count: 1 });
    else
      byRule.set(key, { ...known, severity: worse(known.severity, signal.severity), count: known.count + 1 });
  };
  for (const { alert } of alerts) {
    const { rule, technique, category, severity, source, attribution } = alert;
    add(rule, { rule, technique, category, severity, source, attribution });
  }
  // What could be another's neither counts nor weighs.
  for (const { line } of alarms.filter(({ line: { status } }) => status === "matched")) {
    const { title, severity } = line.alarm;
    const head = { rule: "outside", title, technique: null, category: null } as const;
    add(`outside ${title}`, { ...head, severity, source: "outside", attribution: null });
  }
  const strength = ({ attribution }: IncidentSignal): number =>
    attribution === null ? STRENGTH.length : STRENGTH.indexOf(attribution);
  const seen = ({ source }: IncidentSignal): number => (source === "command" ? 1 : 0);
  return [...byRule.values()].sort(
    (a, b) =>
      Number(a.source === "outside") - Number(b.source === "outside") ||
      severityRank(b.severity) - severityRank(a.severity) ||
      strength(a) - strength(b) ||
      seen(a) - seen(b),
  );
}

const worse = (a: Severity, b: Severity): Severity => (severityRank(b) > severityRank(a) ? b : a);

/** On one line: the process of the alert that leads, else what the call says, else what it was about. */
function whatOf(members: readonly Member[], rule: string): string | null {
  const isLead = (member: Member): boolean => member.kind === "alert" && member.of.alert.rule === rule;
  const ordered = [...members.filter(isLead), ...members.filter((member) => !isLead(member))];
  const texts = [
    ...ordered.map(({ process }) => commandOf(process)),
    ...ordered.map(({ command }) => command),
    ...ordered.map((member) => (member.kind === "alert" ? aboutOf(member.of.alert) : null)),
  ];
  const text = texts.find((one) => one !== null);
  return text?.replace(/\s+/g, " ").trim().slice(0, 400) ?? null;
}

/** The agent's own shell says nothing: what it was told to do does. */
const commandOf = (process: TelemetryProcess | undefined): string | null =>
  process === undefined || process.shell === process.pid ? null : (process.command ?? process.exe ?? null);

/** A place of the network, a name, a file: whatever the evidence is about. */
function aboutOf({ evidence }: Alert): string | null {
  const parsed = About.safeParse(evidence);
  if (!parsed.success) return null;
  const { net, dns, file, syscall, tool } = parsed.data;
  const place =
    net === undefined
      ? undefined
      : [net.host ?? net.ip, net.port].filter((part) => part !== undefined).join(":");
  return file?.path ?? dns?.name ?? place ?? syscall?.name ?? tool?.command ?? null;
}

const About = Telemetry.pick({ net: true, dns: true, file: true, syscall: true, tool: true }).partial();
