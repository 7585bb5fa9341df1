import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { EvidenceBundle, Incident } from "@ale/guard";
import { deepPrintable } from "../printable.ts";
import { actionLines, evidenceLines } from "../show.ts";
import { bytesText, msText, percentText } from "../text.ts";
import { type BundleLine, linesOf } from "./evidence-lines.ts";
import { handCheck, proofSection } from "./evidence-proof.ts";
import { timelineSection } from "./evidence-timeline.ts";
import { type Html, html, htmlPage } from "./html.ts";

const STYLE = ["style.css", "evidence.css"]
  .map((name) => readFileSync(join(import.meta.dirname, name), "utf8"))
  .join("\n");

/**
 * An evidence bundle as one page: no scripts, no requests (its own policy forbids them), readable on paper too. The agent wrote parts of what
 * it shows: every text is escaped and its control characters are made visible. A pure function of the bundle, whose JSON it carries within it;
 * so anybody can see whether the page says what its data say.
 */
export function renderEvidence(bundle: EvidenceBundle, json: string): string {
  const shown = deepPrintable(bundle);
  const lines = linesOf(bundle);
  const { incident } = shown;
  const main = html`<main class="evidence">
${headSection(shown)}
${taskSection(lines)}
${timelineSection(incident, lines)}
${storySection(incident)}
${processSection(incident)}
${networkSection(incident)}
${traceSection(incident)}
${answerSection(incident)}
${alarmSection(incident)}
${proofSection(shown, lines)}
${handCheck(shown, json)}
</main>`;
  return htmlPage({ title: `${incident.id}: ${headline(shown)}`, style: STYLE, main });
}

/** The JSON within a page. Only the page's own link can be meant: quotation marks of any text in it are escaped. */
export function attachmentOf(
  page: string,
): { readonly ok: true; readonly json: string } | { readonly ok: false; readonly why: string } {
  const [, data] = / href="data:application\/json;base64,([A-Za-z0-9+/=]+)"/.exec(page) ?? [];
  return data === undefined
    ? { ok: false, why: "it carries no bundle: it is not a page of ale guard export, or was cut" }
    : { ok: true, json: Buffer.from(data, "base64").toString("utf8") };
}

const headline = ({ incident, rules }: EvidenceBundle): string =>
  rules[incident.rule] ??
  (incident.rule === "outside" ? incident.signals[0]?.title : undefined) ??
  incident.rule;

const day = (ms: number): string => new Date(ms).toISOString().replace("T", " ").slice(0, 23);

function headSection(bundle: EvidenceBundle): Html {
  const { incident, made } = bundle;
  const { id, severity, rule, technique, category, chunk, during, delayMs, records } = incident;
  const fact = (name: string, value: Html | string): Html =>
    html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
  const later = during.length === 0 ? "" : `, still at it in chunk ${during.join(", ")}`;
  const { termination, verdict } = incident;
  const reward =
    verdict === null ? "" : verdict.reward === null ? ", no reward" : `, reward ${verdict.reward}`;
  return html`<header>
    <p class="kicker">Evidence of an incident · ${id} · exported ${made.at.slice(0, 16).replace("T", " ")} UTC</p>
    <h1>${headline(bundle)}</h1>
    ${aboutRule(bundle)}
    <p class="badges"><span class="badge ${severity}">${severity}</span><span class="badge">${rule === "outside" ? "alarm from outside" : rule}</span>${technique === null ? null : html`<span class="badge">ATT&amp;CK ${technique}</span>`}${category === null ? null : html`<span class="badge">${category}</span>`}</p>
    <dl class="facts">
      ${fact("when", `${day(incident.firstAt)} UTC`)}
      ${fact("told after", delayMs === null ? "no alert inside" : msText(delayMs))}
      ${fact("episode", html`<code>${incident.episode}</code>${incident.run === null ? null : html` of run <code>${incident.run}</code>`}`)}
      ${fact("task", incident.instance)}
      ${fact("actor", incident.actor)}
      ${fact("chunk that caused it", `${chunk}${later}`)}
      ${fact("how it ended", `${termination ?? "not ended"}${reward}`)}
      ${fact("records", records === null ? "not counted" : String(records))}
    </dl>
    ${table(
      ["told by", "severity", "technique", "seen", "attribution", "times"],
      incident.signals.map((signal) => [
        signal.rule === "outside" ? (signal.title ?? "") : signal.rule,
        signal.severity,
        signal.technique ?? "",
        signal.source,
        signal.attribution ?? "",
        String(signal.count),
      ]),
    )}
  </header>`;
}

/** What the rule looks for, and who else sets it off: who reads the page may never have seen the rule. */
function aboutRule({ incident, about }: EvidenceBundle): Html | null {
  const rule = about[incident.rule];
  if (rule === undefined) return null;
  const { description, falsePositives } = rule;
  const honest =
    falsePositives.length === 0 ? "" : `An honest agent may set it off too: ${falsePositives.join("; ")}.`;
  const text = [description ?? "", honest].filter((one) => one !== "").join(" ");
  return text === "" ? null : html`<p class="lead">${text}</p>`;
}

function taskSection(lines: readonly BundleLine[]): Html | null {
  const begin = lines[0]?.event;
  if (begin?.type !== "episode.begin") return null;
  return section(
    "The task",
    "What the agent was asked to do, as it stands in the log's first line.",
    html`<p class="instruction">${begin.instance.instruction}</p>`,
  );
}

const section = (title: string, lead: string, ...parts: readonly (Html | null)[]): Html =>
  html`<section><h2>${title}</h2><p class="lead">${lead}</p>${parts}</section>`;

const block = (title: string, text: string | null, kind = ""): Html | null =>
  text === null || text.trim() === ""
    ? null
    : html`<h3>${title}</h3><pre class="${kind}">${text.replace(/\n+$/, "")}</pre>`;

function storySection({ read, wrote, call, result }: Incident): Html {
  const code = result === null || result.exitCode === null ? "" : `, exit code ${result.exitCode}`;
  const guarded = result?.guard === undefined ? "" : `, ${result.guard} by guard`;
  return section(
    "What the model did",
    "The observation before, the text of the chunk that caused it, and the tool call, as they were recorded.",
    block(`It had read (${read?.from ?? ""})`, read?.content ?? null, "observation"),
    block("It wrote", wrote),
    block("The call", call === null ? null : actionLines(call).join("\n"), "action"),
    block(`What came back${code}${guarded}`, result?.content ?? null, "observation"),
  );
}

function processSection({ processes }: Incident): Html | null {
  if (processes.length === 0) return null;
  return section(
    "Processes",
    "Below the agent's shell; numbers are the host's. Those in red gave rise to an alert.",
    html`<ol class="tree">${processes.map(
      ({ pid, depth, command, exe, uid, startedAt, alerted }) =>
        html`<li class="${alerted ? "alerted" : ""} depth-${Math.min(depth, 8)}"><code>${command ?? exe ?? "?"}</code> <span>pid ${pid}${uid === undefined ? null : `, uid ${uid}`}${startedAt === undefined ? null : `, since ${day(startedAt).slice(11)}`}</span></li>`,
    )}</ol>`,
  );
}

function networkSection({ flows, names, firstAt }: Incident): Html | null {
  if (flows.length + names.length === 0) return null;
  const rows = flows.map((flow) => [
    `${flow.at >= firstAt ? "+" : "−"}${msText(Math.abs(flow.at - firstAt))}`,
    `${flow.protocol ?? "?"} ${flow.host ?? flow.ip ?? "?"}${flow.port === undefined ? "" : `:${flow.port}`}`,
    flow.refused !== undefined
      ? `refused: ${flow.refused}`
      : flow.passed === true
        ? "let through"
        : "asked for",
    flow.class ?? "",
    flow.bytesUp === undefined ? "" : `${bytesText(flow.bytesUp)} / ${bytesText(flow.bytesDown ?? 0)}`,
    String(flow.attempts),
    flow.upstream ?? "",
    flow.head ?? "",
  ]);
  return section(
    "Network",
    "Connections, the earliest first; times are from the first packet, program or call of the incident.",
    rows.length === 0
      ? null
      : table(["time", "to", "outcome", "speaks", "up / down", "attempts", "dialled", "first bytes"], rows),
    names.length === 0
      ? null
      : table(
          ["name asked for", "type", "answer", "times"],
          names.map(({ name, type, allowed, count }) => [
            name,
            type ?? "",
            allowed === undefined ? "" : allowed ? "answered" : "refused",
            String(count),
          ]),
        ),
  );
}

function traceSection({ files, syscalls, evidence }: Incident): Html | null {
  const facts = evidence.flatMap(({ seq, rule, evidence: { cause: _, flow: __, ...rest } }) =>
    evidenceLines(rest).map((line) => [String(seq + 1), rule, line]),
  );
  if (files.length + syscalls.length + facts.length === 0) return null;
  return section(
    "Traces",
    "Files, system calls, and what each alert gave as its evidence.",
    files.length === 0
      ? null
      : table(
          ["file", "change", "before", "after"],
          files.map(({ path, change, before, after }) => [path, change, short(before), short(after)]),
        ),
    syscalls.length === 0
      ? null
      : table(
          ["system call", "", "times"],
          syscalls.map(({ name, denied, count }) => [name, denied ? "refused" : "made", String(count)]),
        ),
    facts.length === 0 ? null : table(["line", "rule", "evidence"], facts),
  );
}

const short = (hash: string | null): string =>
  hash === null ? "" : /^[0-9a-f]{64}$/.test(hash) ? `${hash.slice(0, 16)}…` : hash;

function answerSection({ responses, approvals }: Incident): Html | null {
  if (responses.length + approvals.length === 0) return null;
  return section(
    "What was done",
    "Responses of guard, and what people were asked.",
    table(
      ["time (UTC)", "what", "rule", "detail"],
      [
        ...responses.map(({ at, response, rule, detail, snapshot }) => [
          day(at),
          response,
          rule,
          `${detail}${snapshot === undefined ? "" : `; kept as ${snapshot}`}`,
        ]),
        ...approvals.map(({ at, rule, what, granted, by, reason }) => [
          day(at),
          granted === null ? "asked, not answered" : granted ? `granted by ${by}` : `refused by ${by}`,
          rule,
          `${what}${reason === undefined ? "" : ` (${reason})`}`,
        ]),
      ],
    ),
  );
}

function alarmSection({ alarms }: Incident): Html | null {
  if (alarms.length === 0) return null;
  return section(
    "Alarms from outside",
    "Matched by address, port, name, process and time. Their clock's difference from ours was estimated from all alarms of the same sensor together.",
    table(
      ["on their clock (UTC)", "says", "from", "clock off by", "then off by", "sure", "who else"],
      alarms.map(({ at, title, id, skewMs, residualMs, confidence, rivals, unexplained }) => [
        day(at),
        title,
        id,
        msText(skewMs),
        msText(residualMs),
        percentText(confidence),
        [
          ...rivals
            .filter((rival) => rival.confidence >= 0.01)
            .map(
              (rival) => `${rival.episode} chunk ${rival.chunk ?? "none"} ${percentText(rival.confidence)}`,
            ),
          `none of ours ${percentText(unexplained)}`,
        ].join("; "),
      ]),
    ),
  );
}

/** Columns in which nothing stands are left out. */
function table(names: readonly string[], all: readonly (readonly string[])[]): Html {
  const used = names.flatMap((_, i) => (all.some((row) => row[i] !== "") ? [i] : []));
  const head = used.map((i) => names[i]!);
  const rows = all.map((row) => used.map((i) => row[i]!));
  return html`<div class="scroll"><table>
    <thead><tr>${head.map((cell) => html`<th scope="col" class="text">${cell}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}
