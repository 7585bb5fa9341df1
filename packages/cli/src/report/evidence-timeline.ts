import type { Telemetry } from "@ale/core";
import type { Incident } from "@ale/guard";
import { msText } from "../text.ts";
import type { BundleLine } from "./evidence-lines.ts";
import { type Html, html } from "./html.ts";
import { drawing, type Frame, frameOf, ticks } from "./svg.ts";

/** Commands, records, packets, alerts and answers of an incident on one time axis: a drawing to see it by, and the same in words. */

const LANES = [
  ["command", "commands"],
  ["record", "programs, files"],
  ["packet", "packets, names"],
  ["alert", "alerts"],
  ["outside", "alarms outside"],
  ["answer", "guard, people"],
] as const;
type Lane = (typeof LANES)[number][0];

export interface Moment {
  readonly lane: Lane;
  /** Milliseconds since the epoch, on the episode's clock. */
  readonly at: number;
  /** Of what lasts. */
  readonly until?: number;
  readonly what: string;
  /** Line of the log, from 1; undefined of an alarm from outside. */
  readonly line?: number;
}

const MOST_ROWS = 200;

export function timelineSection(incident: Incident, lines: readonly BundleLine[]): Html | null {
  const moments = momentsOf(incident, lines);
  if (moments.length === 0) return null;
  const shown = moments.slice(0, MOST_ROWS);
  const left = moments.length - shown.length;
  return html`<section>
    <h2>Time line</h2>
    <p class="lead">What the agent ran, what collectors saw, what rang and what was done, on one clock. Zero is the first packet, program or call of the incident, ${clock(incident.firstAt)} UTC.</p>
    <figure class="timeline wide">${chart("tw", incident, moments, 760)}</figure>
    <figure class="timeline narrow">${chart("tn", incident, moments, 390)}</figure>
    <details${moments.length <= 30 ? html` open` : null}><summary>In words (${moments.length})</summary>
    <ol class="moments">${shown.map(
      ({ lane, at, until, what, line }) =>
        html`<li class="of-${lane}"><span class="when">${offset(at - incident.firstAt)}</span> <span class="lane">${laneName(lane)}</span> <span class="what">${what}${until === undefined ? null : html` <small>for ${msText(until - at)}</small>`}${line === undefined ? null : html` <small>line ${line}</small>`}</span></li>`,
    )}</ol>${left > 0 ? html`<p class="lead">…and ${left} more: the attached log has them.</p>` : null}</details>
  </section>`;
}

const laneName = (lane: Lane): string => LANES.find(([name]) => name === lane)![1];
const clock = (ms: number): string => new Date(ms).toISOString().slice(11, 23);
const offset = (ms: number): string => (ms === 0 ? "0" : `${ms < 0 ? "−" : "+"}${msText(Math.abs(ms))}`);

/** In order of time. Of lines that are no part of it, such as the model's turns, nothing. */
export function momentsOf(incident: Incident, lines: readonly BundleLine[]): Moment[] {
  const start = Date.parse(incident.startedAt);
  const results = new Map(
    lines.flatMap(({ event, t }) =>
      event?.type === "tool.result" ? [[event.callId, start + t] as const] : [],
    ),
  );
  const moments = lines.flatMap((line) => momentOf(line, start, results));
  for (const { at, skewMs, title, source, status } of incident.alarms)
    moments.push({
      lane: "outside",
      at: at - skewMs,
      what: `${title} (${source}${status === "ambiguous" ? ", perhaps another's" : ""})`,
    });
  return moments.sort((a, b) => a.at - b.at);
}

function momentOf(
  { seq, t, event }: BundleLine,
  start: number,
  results: ReadonlyMap<string, number>,
): Moment[] {
  const here = { at: start + t, line: seq + 1 };
  switch (event?.type) {
    case "tool.call": {
      const until = results.get(event.call.id);
      const { command, path } = event.call.arguments as { command?: unknown; path?: unknown };
      const what = [event.call.name, command ?? path].filter((one) => typeof one === "string").join(": ");
      return [{ ...here, lane: "command", what, ...(until === undefined ? {} : { until }) }];
    }
    case "telemetry":
      return [{ ...momentOfRecord(event.record), line: seq + 1 }];
    case "file.change":
      return [{ ...here, lane: "record", what: `${event.path} ${event.change}` }];
    case "alert":
      return [{ ...here, lane: "alert", what: `${event.alert.rule}, ${event.alert.severity}` }];
    case "response":
      return [{ ...here, lane: "answer", what: `${event.response}: ${event.detail}` }];
    case "approval.request":
      return [{ ...here, lane: "answer", what: `approval asked for: ${event.what}` }];
    case "approval.answer":
      return [{ ...here, lane: "answer", what: `${event.granted ? "granted" : "refused"} by ${event.by}` }];
    default:
      return [];
  }
}

function momentOfRecord({ at, kind, process, net, dns, file, syscall }: Telemetry): Moment {
  if (net !== undefined || dns !== undefined) {
    const to =
      dns?.name ??
      `${net?.protocol ?? ""} ${net?.host ?? net?.ip ?? "?"}${net?.port === undefined ? "" : `:${net.port}`}`.trim();
    const more = [net?.rule, net?.class].filter((one) => one !== undefined).join(", ");
    return { lane: "packet", at, what: `${kind} ${to}${more === "" ? "" : ` (${more})`}` };
  }
  const what = file?.path ?? syscall?.name ?? process?.command ?? process?.exe ?? "";
  return { lane: "record", at, what: `${kind} ${what}` };
}

const ROW = 34;

function chart(id: string, incident: Incident, moments: readonly Moment[], width: number): Html {
  const isNarrow = width < 600;
  const lanes = LANES.filter(([lane]) => moments.some((moment) => moment.lane === lane));
  const from = Math.min(0, ...moments.map(({ at }) => at - incident.firstAt));
  const to = Math.max(1, ...moments.map(({ at, until }) => (until ?? at) - incident.firstAt));
  const margin = { left: isNarrow ? 108 : 140, right: 24, top: 8, bottom: 34 };
  const height = margin.top + lanes.length * ROW + margin.bottom;
  const frame = frameOf({ width, height, margin, xRange: [from, to], yRange: [0, 1] });
  const marks = ticks([from, to], isNarrow ? 3 : 7);
  const body = html`${marks.map((value) => html`<line class="${value === 0 ? "axis" : "grid"}" x1="${px(frame.x(value))}" x2="${px(frame.x(value))}" y1="${margin.top}" y2="${px(frame.bottom)}"/><text class="tick" x="${px(frame.x(value))}" y="${px(frame.bottom + 18)}" text-anchor="middle">${offset(value)}</text>`)}${lanes.map(([lane, name], row) => laneOf(frame, incident, moments, lane, name, margin.top + row * ROW + ROW / 2))}`;
  const said = lanes.map(([lane, name]) => `${moments.filter((one) => one.lane === lane).length} ${name}`);
  return drawing(
    id,
    width,
    height,
    "The incident on one time axis",
    `From ${offset(from)} to ${offset(to)}: ${said.join(", ")}.`,
    body,
  );
}

function laneOf(
  frame: Frame,
  { firstAt }: Incident,
  moments: readonly Moment[],
  lane: Lane,
  name: string,
  y: number,
): Html {
  const own = moments.filter((moment) => moment.lane === lane);
  return html`<g class="moment of-${lane}"><line class="grid" x1="${px(frame.left)}" x2="${px(frame.right)}" y1="${y}" y2="${y}"/><text class="tick" x="${px(frame.left - 12)}" y="${y}" dy="0.32em" text-anchor="end">${name}</text>${own.map(
    ({ at, until, what }) => {
      const x = frame.x(at - firstAt);
      const tip = html`<title>${`${offset(at - firstAt)} ${what}`.slice(0, 300)}</title>`;
      if (until !== undefined)
        return html`<rect class="span" x="${px(x)}" y="${y - 7}" width="${px(Math.max(3, frame.x(until - firstAt) - x))}" height="14" rx="3">${tip}</rect>`;
      return lane === "alert" || lane === "outside"
        ? html`<path class="bell" d="M${px(x)} ${y - 8}l7 8l-7 8l-7 -8Z">${tip}</path>`
        : html`<circle class="bell" cx="${px(x)}" cy="${y}" r="5">${tip}</circle>`;
    },
  )}</g>`;
}

const px = (value: number): string => (Math.round(value * 10) / 10).toString();
