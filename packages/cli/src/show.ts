import type { Alert, EpisodeLog, Event, EventOf, Telemetry, ToolCall, Verdict } from "@ale/core";
import type { Style } from "./io.ts";
import { deepPrintable } from "./printable.ts";
import { budgetText } from "./rock/record-line.ts";
import { visibleLength } from "./table.ts";

/**
 * An episode as a person reads it: what was asked, then chunk by chunk what the policy did, what it saw, and the alerts on the chunk
 * that caused them, then the verdict. A pure function of the log.
 */
export interface ShowOptions {
  /** Columns to fill with rules; text itself is not wrapped, so that it can be copied. */
  readonly width: number;
  paint(style: Style, text: string): string;
  /** Longest observation shown, in lines; 0 shows all of it. */
  readonly maxLines: number;
  /** Discounted return of each chunk, where the run's recipe is at hand. */
  readonly returns?: ReadonlyMap<number, number>;
}

export function renderEpisode(recorded: EpisodeLog, options: ShowOptions): string[] {
  const log = deepPrintable(recorded);
  const begin = log.events.find((event) => event.type === "episode.begin");
  if (begin === undefined) return ["an empty log"];
  const lines = [...header(begin, log, options), "", ...instruction(begin, log.events, options)];
  for (const entry of log.entries) {
    if (entry.known) lines.push(...renderEvent(entry.event, entry.t, options));
    else lines.push(options.paint("dim", `  (${entry.event.type}: written by a newer version)`));
  }
  return [...lines, "", ...footer(log, options)];
}

/** The same event by event, while it happens. */
export function renderLive(recorded: Event, tMs: number, options: ShowOptions): string[] {
  const event = deepPrintable(recorded);
  const { paint } = options;
  switch (event.type) {
    case "episode.begin":
      return [
        paint("bold", event.episode),
        row("instance", `${event.instance.id} (${event.instance.domain})`, options),
        row("actor", actorText(event), options),
        row("profile", `${event.profile.name} ${event.profileHash.slice(0, 12)}`, options),
        "",
      ];
    case "message":
      return messageLines(event, options);
    case "episode.end":
      return ["", endLine(event, 0, options)];
    case "verdict":
      return verdictLines(event.verdict, paint);
    default:
      return renderEvent(event, tMs, options);
  }
}

const row = (name: string, value: string, { paint }: ShowOptions): string =>
  `  ${paint("dim", name.padEnd(10))}${value}`;

const actorText = ({ actor }: EventOf<"episode.begin">): string =>
  actor.type === "policy"
    ? `policy ${actor.model}, version ${actor.version}`
    : `script ${actor.name} (an expert, not the policy)`;

function header(begin: EventOf<"episode.begin">, log: EpisodeLog, options: ShowOptions): string[] {
  const { instance } = begin;
  const { paint } = options;
  const chain = log.sealed
    ? paint("green", "sealed, chain intact")
    : paint("yellow", "not sealed: still running, or cut off");
  const where = `${begin.startedAt}, ${begin.purpose}${begin.run === null ? "" : `, run ${begin.run}`}`;
  return [
    `${paint("bold", begin.episode)}  ${chain}`,
    row("instance", `${instance.id} (${instance.domain})`, options),
    row("actor", actorText(begin), options),
    row("recorded", where, options),
    row("profile", `${begin.profile.name} ${begin.profileHash.slice(0, 12)}`, options),
    row("log", `${log.path}`, options),
    row("digest", log.head, options),
  ];
}

function instruction(
  begin: EventOf<"episode.begin">,
  events: readonly Event[],
  options: ShowOptions,
): string[] {
  const messages = events.filter((event) => event.type === "message");
  const shown =
    messages.length > 0 ? messages : [{ role: "user" as const, content: begin.instance.instruction }];
  return shown.flatMap((message) => messageLines(message, options));
}

const messageLines = (
  { role, content }: Pick<EventOf<"message">, "role" | "content">,
  { paint }: ShowOptions,
): string[] => [paint("bold", role === "user" ? "Instruction" : "System message"), ...indent(content, "  ")];

/** `tMs`: since the episode began. */
function renderEvent(event: Event, tMs: number, options: ShowOptions): string[] {
  const { paint } = options;
  switch (event.type) {
    case "model.call":
      return chunkHead(event, tMs, options);
    case "tool.result":
      return observation(event, options);
    case "alert":
      return alertLines(event.alert, options);
    case "file.change":
      return [paint("magenta", `  ~ ${event.change} ${event.path}`)];
    case "fault":
      return [paint("yellow", `  ! environment fault: ${event.what} (${event.detail})`)];
    case "log.repair":
      return [
        paint("yellow", `  ! a torn last line of ${event.droppedBytes} bytes was cut off here after a crash`),
      ];
    case "install":
      return installLines(event, options);
    case "telemetry":
      return telemetryLine(event.record, options);
    case "guard.totals":
      return event.alerts
        .filter(({ records }) => records > 1)
        .map(({ rule, chunk, records }) =>
          paint("dim", `  · ${rule} of chunk ${chunk}: ${records} records in all`),
        );
    case "response":
      return [paint("magenta", `  ! ${event.response} (${event.rule}): ${event.detail}`)];
    case "approval.request":
      return [paint("yellow", `  ? ${event.id} waits for approval (${event.rule}): ${event.what}`)];
    case "approval.answer": {
      const answer = event.granted ? "approved" : "refused";
      return [paint("yellow", `  ? ${answer} by ${event.by}${event.reason ? `: ${event.reason}` : ""}`)];
    }
    case "episode.begin":
    case "message":
    case "tool.call":
    case "episode.end":
    case "verdict":
    case "episode.seal":
      return [];
    default: {
      const never: never = event;
      return [String(never)];
    }
  }
}

function installLines(event: EventOf<"install">, options: ShowOptions): string[] {
  const { command, user, network, exitCode, timedOut, stdout, stderr, durationMs } = event;
  const { paint } = options;
  const how = timedOut ? "timed out" : `exit code ${exitCode ?? "none"}`;
  const took = `${(durationMs / 1_000).toFixed(1)} s, as ${user}, network ${network}`;
  return [
    `${paint("bold", "install")} ${paint("dim", took)}`,
    ...indent(`$ ${command}`, "  "),
    ...outputLines(stdout + stderr, options),
    ...(exitCode === 0 ? [] : [paint("yellow", `  (${how})`)]),
  ];
}

/** What is refused or new is shown; counters are for `--json` and for queries. */
function telemetryLine(record: Telemetry, { paint }: ShowOptions): string[] {
  const { net, dns, process } = record;
  const what =
    net !== undefined
      ? [
          net.class,
          net.host ?? net.ip,
          net.port === undefined ? undefined : `port ${net.port}`,
          net.rule,
          budgetText(net),
        ]
      : dns !== undefined
        ? [dns.name, dns.allowed === false ? "refused" : "answered"]
        : [record.syscall?.name, record.file?.path, record.tool?.name, process?.command];
  if (record.kind === "resource.sample") return [];
  const text = what.filter((part) => part !== undefined && part !== "").join(" ");
  const by = process?.command === undefined || net === undefined ? "" : `  by ${process.command}`;
  return [paint("dim", `  · ${record.kind} ${text}${by}`)];
}

function chunkHead(call: EventOf<"model.call">, tMs: number, options: ShowOptions): string[] {
  const { paint, width, returns } = options;
  const logProbability = call.logprobs.reduce((sum, value) => sum + value, 0);
  const facts = [
    `${(tMs / 1000).toFixed(2)} s`,
    `${call.tokens.length} tokens`,
    ...(call.logprobs.length > 0 ? [`log p ${logProbability.toFixed(2)}`] : []),
    ...(call.source === "expert" ? ["expert"] : []),
    ...(returns?.has(call.chunk) ? [`return ${returns.get(call.chunk)!.toFixed(3)}`] : []),
  ].join(", ");
  const title = `── chunk ${call.chunk} `;
  const rule = "─".repeat(Math.max(2, width - visibleLength(title) - facts.length - 1));
  const lines = ["", paint("dim", `${title}${rule} ${facts}`)];
  if (call.malformed !== undefined)
    return [
      ...lines,
      paint("yellow", `  ! not a well-formed tool call: ${call.malformed}`),
      ...indent(call.text, "  "),
    ];
  return [
    ...lines,
    ...call.toolCalls.flatMap((toolCall) => actionLines(toolCall).map((line) => paint("cyan", line))),
  ];
}

/** What the policy did, as one would type it: `$ command` for the shell, the tool's name and arguments otherwise. */
export function actionLines(call: Pick<ToolCall, "name" | "arguments">): string[] {
  const entries = Object.entries(call.arguments);
  if (call.name === "bash" && typeof call.arguments.command === "string") {
    const [first = "", ...rest] = call.arguments.command.split("\n");
    return [`$ ${first}`, ...rest.map((line) => `> ${line}`)];
  }
  const short = entries.filter(([, value]) => !String(value).includes("\n"));
  const long = entries.filter(([, value]) => String(value).includes("\n"));
  const text = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
  return [
    [`[${call.name}]`, ...short.map(([name, value]) => `${name}=${text(value)}`)].join(" "),
    ...long.flatMap(([name, value]) => [`  ${name}:`, ...indent(text(value), "    ")]),
  ];
}

function outputLines(text: string, { paint, maxLines }: Pick<ShowOptions, "paint" | "maxLines">): string[] {
  const all = text === "" ? [] : indent(text, "  ");
  if (maxLines <= 0 || all.length <= maxLines) return all;
  const more = paint("dim", `  … ${all.length - maxLines} more lines (--full shows them)`);
  return [...all.slice(0, maxLines), more];
}

function observation(result: EventOf<"tool.result">, { paint, maxLines }: ShowOptions): string[] {
  const shown = outputLines(result.content, { paint, maxLines });
  const notes = [
    ...(result.timedOut ? ["timed out"] : []),
    ...(result.guard === undefined ? [] : [`${result.guard} by guard`]),
    ...(result.exitCode !== null && result.exitCode !== 0 ? [`exit code ${result.exitCode}`] : []),
    ...(result.isError && result.exitCode === null && !result.timedOut && result.guard === undefined
      ? ["failed"]
      : []),
  ];
  return [...shown, ...(notes.length > 0 ? [paint("yellow", `  (${notes.join(", ")})`)] : [])];
}

function alertLines(alert: Alert, { paint }: ShowOptions): string[] {
  const how = alert.attribution === "interval" ? ", attributed by time alone" : "";
  return [
    `  ▲ ${alert.severity.toUpperCase()} ${alert.rule} (${alert.technique}, ${alert.category}${how})`,
    ...evidenceLines(alert.evidence).map((line) => `    ${line}`),
  ].map((line) => paint("red", line));
}

/** One line a fact; of a list one line an item. Digests are cut to what tells them apart. */
export function evidenceLines(evidence: Alert["evidence"]): string[] {
  const short = (text: string): string => text.replace(/\b([0-9a-f]{8})[0-9a-f]{56}\b/g, "$1…");
  const text = (value: unknown): string => {
    if (typeof value !== "object" || value === null) return short(String(value));
    return Object.entries(value)
      .map(
        ([name, member]) =>
          `${name} ${typeof member === "object" ? short(JSON.stringify(member)) : short(String(member))}`,
      )
      .join(", ");
  };
  return Object.entries(evidence).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((item) => `${name}: ${text(item)}`),
  );
}

function footer(log: EpisodeLog, options: ShowOptions): string[] {
  const end = log.events.find((event) => event.type === "episode.end");
  const verdict = log.events.find((event) => event.type === "verdict")?.verdict;
  const alerts = log.events.filter((event) => event.type === "alert").length;
  const line = endLine(end, alerts, options);
  return verdict === undefined ? [line] : [line, ...verdictLines(verdict, options.paint)];
}

function endLine(end: EventOf<"episode.end"> | undefined, alerts: number, { paint }: ShowOptions): string {
  const ended = end === undefined ? "not ended" : `${end.termination} after ${count(end.chunks, "chunk")}`;
  const detail = end?.detail === undefined ? "" : ` (${end.detail})`;
  const alarm = alerts > 0 ? paint("red", `, ${count(alerts, "alert")}`) : "";
  return `${paint("bold", "Ended")}    ${ended}${detail}${alarm}`;
}

function verdictLines(verdict: Verdict, paint: ShowOptions["paint"]): string[] {
  const reward =
    verdict.reward === null
      ? paint("yellow", `no reward: ${verdict.environmentFault ?? "the environment failed"}`)
      : paint(verdict.reward > 0 ? "green" : "red", `reward ${verdict.reward}`);
  const tests = verdict.tests.map((test) =>
    test.passed
      ? paint("green", `  ✓ ${test.name}`)
      : paint("red", `  ✗ ${test.name}${test.message === undefined ? "" : `: ${test.message}`}`),
  );
  return [
    `${paint("bold", "Verdict")}  ${reward} ${paint("dim", `(${verdict.durationMs.toFixed(0)} ms)`)}`,
    ...tests,
  ];
}

const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? "" : "s"}`;

const indent = (text: string, by: string): string[] =>
  text
    .replace(/\n$/, "")
    .split("\n")
    .map((line) => by + line);
