import type { EpisodeLog, Severity } from "@ale/core";
import type { Incident, IncidentFlow, IncidentProcess } from "@ale/guard";
import type { Io, Style } from "./io.ts";
import { deepPrintable } from "./printable.ts";
import { actionLines, evidenceLines } from "./show.ts";
import { visibleLength } from "./table.ts";
import { bytesText, lineRanges, msText, percentText, wrapped } from "./text.ts";

/**
 * An incident as a person follows it: who told, in which episode and chunk, what the model had read and wrote, the call, the processes, what
 * went where, what was done about it, and where the proof is. A pure function of the incident.
 */
export interface IncidentView {
  readonly width: number;
  paint(style: Style, text: string): string;
  /** What a rule says in a sentence, where it is known. */
  titleOf(rule: string): string | undefined;
  readonly log: Pick<EpisodeLog, "path" | "head" | "sealed">;
  /** Why the log is not what is known of it from elsewhere. */
  readonly against: string | null;
  /** Longest text shown, in lines; 0 shows all of it. */
  readonly maxLines: number;
}

export const severityPaint =
  (severity: Severity, { paint }: Pick<Io, "paint">) =>
  (text: string): string =>
    paint(
      severity === "critical" || severity === "high" ? "red" : severity === "medium" ? "yellow" : "dim",
      text,
    );

export function renderIncident(recorded: Incident, view: IncidentView): string[] {
  const incident = deepPrintable(recorded);
  const sections: readonly (readonly [string, readonly string[]])[] = [
    [
      `What it had read${incident.read === null ? "" : ` (${incident.read.from})`}`,
      quoted(incident.read?.content ?? null, view),
    ],
    ["What it wrote", quoted(incident.wrote, view)],
    [callTitle(incident), callLines(incident, view)],
    ["Processes", processLines(incident.processes, view)],
    ["Network", incident.flows.flatMap((flow) => flowLines(flow, incident, view))],
    ["Names asked for", incident.names.map((name) => `  ${name.name} ${nameFacts(name)}`)],
    [
      "System calls",
      incident.syscalls.map(
        ({ name, denied, count }) => `  ${name}${times(count)}${denied ? ", refused" : ""}`,
      ),
    ],
    ["Files", incident.files.map(({ change, path }) => `  ${change.padEnd(8)} ${path}`)],
    ["What was done", answerLines(incident)],
    ["Alarms from outside", incident.alarms.flatMap((alarm) => alarmLines(alarm, view))],
    ["Evidence", incident.evidence.flatMap((one) => evidence(one, view))],
    ["Proof", proofLines(recorded, view)],
  ];
  return [
    ...header(incident, view),
    ...sections.flatMap(([title, lines]) =>
      lines.length === 0 ? [] : ["", view.paint("bold", title), ...lines],
    ),
  ];
}

function header(incident: Incident, view: IncidentView): string[] {
  const { paint, width } = view;
  const { id, severity, rule, technique, chunk, during, callIds, firstAt } = incident;
  const name = rule === "outside" ? "alarm from outside" : rule;
  const left = `${id}  ${severity.toUpperCase()}  ${name}${technique === null ? "" : `  ${technique}`}`;
  const when = new Date(firstAt).toISOString().replace("T", " ").slice(0, 23);
  const gap = " ".repeat(Math.max(2, width - left.length - when.length));
  const head = severityPaint(severity, view)(`${id}  ${severity.toUpperCase()}  ${paint("bold", name)}`);
  const title = rule === "outside" ? incident.signals[0]?.title : view.titleOf(rule);
  const row = (label: string, text: string): string[] =>
    wrapped(text, width - 11).map((line, i) => `  ${paint("dim", (i === 0 ? label : "").padEnd(9))}${line}`);
  const later =
    during.length === 0 ? "" : `, still at it in ${during.map((one) => `chunk ${one}`).join(", ")}`;
  return [
    `${head}${technique === null ? "" : `  ${technique}`}${gap}${paint("dim", when)}`,
    ...(title === undefined ? [] : wrapped(title, width)),
    "",
    ...row("episode", `${incident.episode}${incident.run === null ? "" : `, run ${incident.run}`}`),
    ...row("task", `${incident.instance}, by ${incident.actor}`),
    ...row("chunk", `${chunk}${callIds.length === 0 ? "" : ` (${callIds.join(", ")})`}${later}`),
    ...incident.signals.flatMap((signal, i) => row(i === 0 ? "told by" : "", signalText(signal))),
    ...row("delay", delayText(incident)),
    ...row("ended", endText(incident)),
  ];
}

const SURE = {
  certain: "certain",
  ancestry: "by descent of the process",
  interval: "by time alone",
} as const;
const HOW = {
  command: "said in the call",
  file: "a protected file",
  telemetry: "seen",
  outside: "seen from outside",
} as const;

function signalText({
  rule,
  title,
  severity,
  technique,
  source,
  attribution,
  count,
}: Incident["signals"][number]): string {
  const name = rule === "outside" ? (title ?? rule) : rule;
  const facts = [severity, technique, HOW[source], attribution === null ? null : SURE[attribution]];
  return `${name}${times(count)}: ${facts.filter((fact) => fact !== null).join(", ")}`;
}

function delayText({ delayMs, records, firstAt, lastAt }: Incident): string {
  const delay =
    delayMs === null
      ? "no alert inside"
      : `${msText(delayMs)} from the first packet, program or call to the alert`;
  const went = lastAt === null || lastAt <= firstAt ? "" : ` over ${msText(lastAt - firstAt)}`;
  return records === null || records < 2 ? delay : `${delay}; ${records} records${went}`;
}

function endText({ termination, verdict }: Incident): string {
  const end = termination ?? "not ended";
  if (verdict === null) return end;
  const reward =
    verdict.reward === null
      ? `no reward: ${verdict.environmentFault ?? "the environment failed"}`
      : `reward ${verdict.reward}`;
  return `${end}, ${reward} (${verdict.passed} of ${verdict.tests} tests)`;
}

/** Text of the agent or of its world, cut at the end where it is long. */
function quoted(text: string | null, { width, paint, maxLines }: IncidentView): string[] {
  if (text === null || text.trim() === "") return [];
  const lines = text
    .replace(/\n+$/, "")
    .split("\n")
    .flatMap((line) => wrapped(line, width - 4));
  const cut = maxLines > 0 && lines.length > maxLines;
  const shown = (cut ? lines.slice(0, maxLines) : lines).map((line) => `  ${paint("dim", "│")} ${line}`);
  return cut
    ? [...shown, paint("dim", `  … ${lines.length - maxLines} more lines (--full shows them)`)]
    : shown;
}

const callTitle = ({ call, result }: Incident): string =>
  `Call${call === null ? "" : ` ${call.id}`}${result?.guard === undefined ? "" : `, ${result.guard} by guard`}`;

function callLines({ call, result }: Incident, view: IncidentView): string[] {
  if (call === null) return [];
  const action = actionLines(call).flatMap((line) => wrapped(line, view.width - 2));
  const exit =
    result === null || result.exitCode === null || result.exitCode === 0
      ? ""
      : `exit code ${result.exitCode}`;
  return [
    ...action.map((line) => `  ${view.paint("cyan", line)}`),
    ...quoted(result?.content ?? null, view),
    ...(exit === "" ? [] : [view.paint("yellow", `  (${exit})`)]),
  ];
}

/** As a tree: a branch goes on as long as a later process has the same parent. */
function processLines(processes: readonly IncidentProcess[], view: IncidentView): string[] {
  return processes.flatMap(({ pid, depth, command, exe, alerted }, i) => {
    const goesOn = (level: number): boolean => {
      const next = processes.slice(i + 1).find((later) => later.depth <= level);
      return next?.depth === level;
    };
    const above = Array.from({ length: Math.max(0, depth - 1) }, (_, k) =>
      goesOn(k + 1) ? "│  " : "   ",
    ).join("");
    const [branch, below] = depth === 0 ? ["", ""] : goesOn(depth) ? ["├─ ", "│  "] : ["└─ ", "   "];
    const mark = alerted ? `  ${view.paint("red", "◀ alert")}` : "";
    const indent = 2 + above.length + branch.length;
    const lines = wrapped(`${pid}  ${command ?? exe ?? "?"}`, view.width - indent - 2 - (alerted ? 9 : 0));
    return lines.map(
      (line, k) => `  ${above}${k === 0 ? branch : `${below}  `}${line}${k === 0 ? mark : ""}`,
    );
  });
}

function flowLines(flow: IncidentFlow, { firstAt }: Incident, view: IncidentView): string[] {
  const {
    protocol,
    host,
    ip,
    port,
    refused,
    attempts,
    bytesUp,
    bytesDown,
    durationMs,
    claimed,
    upstream,
    head,
  } = flow;
  const where = `${protocol ?? "?"} ${host ?? ip ?? "?"}${port === undefined ? "" : `:${port}`}`;
  const outcome =
    refused !== undefined
      ? view.paint("green", `refused (${refused})`)
      : flow.passed === true
        ? view.paint("yellow", "let through")
        : "asked for";
  const facts = [
    `${flow.at >= firstAt ? "+" : "−"}${msText(Math.abs(flow.at - firstAt))}`,
    attempts === 1 ? "" : `${attempts} attempts`,
    flow.class ?? "",
    bytesUp === undefined ? "" : `${bytesText(bytesUp)} up, ${bytesText(bytesDown ?? 0)} down`,
    durationMs === undefined ? "" : `in ${msText(durationMs)}`,
    claimed === undefined ? "" : `said it was ${claimed}`,
    upstream === undefined ? "" : `dialled ${upstream}`,
    flow.pid === undefined ? "" : `pid ${flow.pid}`,
  ].filter((fact) => fact !== "");
  return [
    `  ${where}  ${outcome}`,
    ...wrapped(facts.join(", "), view.width - 4).map((line) => `    ${view.paint("dim", line)}`),
    ...(head === undefined || head === ""
      ? []
      : wrapped(`“${head}”`, view.width - 4).map((line) => `    ${line}`)),
  ];
}

const times = (count: number): string => (count === 1 ? "" : ` ×${count}`);
const nameFacts = ({ type, allowed, count }: Incident["names"][number]): string =>
  [type, allowed === undefined ? null : allowed ? "answered" : "refused", count === 1 ? null : `×${count}`]
    .filter((fact) => fact !== null && fact !== undefined)
    .join(", ");

function answerLines({ responses, approvals }: Incident): string[] {
  return [
    ...responses.map(
      ({ response, rule, detail, snapshot }) =>
        `  ${response} (${rule}): ${detail}${snapshot === undefined ? "" : `; kept as ${snapshot}`}`,
    ),
    ...approvals.map(({ rule, what, granted, by, reason, waitedMs }) => {
      const answer = granted === null ? "not answered" : `${granted ? "granted" : "refused"} by ${by}`;
      const after = waitedMs === null ? "" : ` after ${msText(waitedMs)}`;
      return `  asked for approval (${rule}): ${what}: ${answer}${after}${reason === undefined ? "" : `, “${reason}”`}`;
    }),
  ];
}

function alarmLines(alarm: Incident["alarms"][number], { paint }: IncidentView): string[] {
  const { id, source, title, severity, at, skewMs, residualMs, confidence, rivals, unexplained } = alarm;
  const theirs = new Date(at).toISOString().replace("T", " ").slice(0, 23);
  const ahead = skewMs >= 0 ? "ahead" : "behind";
  return [
    `  ${title}  ${paint("dim", `${severity}, ${source}, ${id}`)}`,
    `    ${theirs} on its clock, which is ${msText(Math.abs(skewMs))} ${ahead}; off by ${msText(Math.abs(residualMs))}`,
    `    ${percentText(confidence)} this${alarm.status === "matched" ? "" : ", so perhaps another's"}, ${percentText(unexplained)} none of ours`,
    ...rivals
      .filter((rival) => rival.confidence >= 0.01)
      .slice(0, 4)
      .map(
        (rival) =>
          `    ${percentText(rival.confidence)} ${rival.episode} chunk ${rival.chunk ?? "none"}${rival.callId === null ? "" : ` (${rival.callId})`}`,
      ),
  ];
}

/** What the sections above do not say already. */
function evidence(
  { seq, rule, evidence: facts }: Incident["evidence"][number],
  view: IncidentView,
): string[] {
  const { net: _, dns: __, flow: ___, cause: ____, root: _____, record: ______, ...rest } = facts;
  const lines = evidenceLines(rest).flatMap((line) => wrapped(line, view.width - 4));
  return lines.length === 0
    ? []
    : [`  ${view.paint("dim", `line ${seq + 1}, ${rule}`)}`, ...lines.map((line) => `    ${line}`)];
}

function proofLines({ id, lines }: Incident, { log, against, width, paint }: IncidentView): string[] {
  const state = log.sealed
    ? paint("green", "sealed, chain intact")
    : paint("yellow", "not sealed, chain intact so far");
  return [
    ...(against === null
      ? []
      : wrapped(`it does not hold: ${against}`, width - 2).map((line) => `  ${paint("red", line)}`)),
    `  ${state}, last hash ${log.head.slice(0, 16)}…`,
    ...wrapped(`lines ${lineRanges(lines)} of`, width - 2).map((line) => `  ${line}`),
    `  ${log.path}`,
    `  hand over: ale guard export ${id}`,
  ].map((line) => (visibleLength(line) > 0 ? line : ""));
}
