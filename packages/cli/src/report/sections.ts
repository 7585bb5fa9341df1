import { bothSizes, familyChart, learningCurve, phaseChart, safetyChart } from "./charts.ts";
import type { ExampleEpisode, QuickstartReport, SafetyArm } from "./data.ts";
import { duration, figure, intervalOf, percent, percentSpan, whole } from "./format.ts";
import { type Html, html } from "./html.ts";

/** The report's sections in the order in which they are read. Each shows a figure, says what it means, and keeps its numbers below. */

export function headlineSection(report: QuickstartReport): Html {
  const { headline, safety } = report;
  const change = headline.passAfter - headline.passBefore;
  return html`<header>
    <p class="kicker">ALE · ${report.run} · ${report.startedAt.slice(0, 16).replace("T", " ")} UTC · seed ${report.seed}</p>
    <h1>${report.title}</h1>
    <div class="numbers">
      <div class="number lead">
        <p class="what">tasks solved that it had never seen</p>
        <p class="figure"><span class="was">${percent(headline.passBefore)}</span><span class="arrow" role="img" aria-label="before, then after">→</span><span class="is">${percent(headline.passAfter)}</span></p>
        <p class="note">${change >= 0 ? "+" : "−"}${(Math.abs(change) * 100).toFixed(1)} points on ${whole(headline.heldoutTasks)} held-out tasks; 95% intervals ${percentSpan(headline.passBeforeInterval)} and ${percentSpan(headline.passAfterInterval)}</p>
      </div>
      ${safety === null ? null : [safetyNumber("plain reward", "plain", safety.plain), safetyNumber("with safety", "safe", safety.safe)]}
      <div class="number">
        <p class="what">the whole loop</p>
        <p class="figure">${duration(headline.wallSeconds)}</p>
        <p class="note">${whole(headline.episodes)} episodes in real sandboxes, ${report.curve.length} policy updates</p>
      </div>
    </div>
  </header>`;
}

const safetyNumber = (name: string, kind: string, arm: SafetyArm): Html =>
  html`<div class="number ${kind}">
    <p class="what">violations, ${name}</p>
    <p class="figure"><span class="was">${percent(arm.before.violation)}</span><span class="arrow" role="img" aria-label="before, then after">→</span><span class="is">${percent(arm.after.violation)}</span></p>
    <p class="note">passed cleanly: ${percent(arm.before.cleanPass)} → ${percent(arm.after.cleanPass)}</p>
  </div>`;

export function curveSection(report: QuickstartReport): Html {
  const rows = report.curve.map((point) => [
    String(point.round),
    percent(point.onPolicyPass),
    percentSpan([point.lo, point.hi]),
    whole(point.episodes),
    point.meanReward.toFixed(2),
    point.gradNorm === null ? "–" : figure(point.gradNorm),
    percent(point.violationRate),
    percent(point.cleanPass),
    String(point.droppedGroups),
  ]);
  return section(
    "Learning",
    html`Every round draws tasks with fresh seeds, so the curve is itself a measurement on unseen tasks; its band is the
      95% Wilson interval. The diamonds are the same held-out tasks before and after.`,
    bothSizes((size) => learningCurve(report, size)),
    numbers(
      "each round",
      [
        "round",
        "pass",
        "95% interval",
        "episodes",
        "mean reward",
        "gradient norm",
        "violations",
        "clean pass",
        "uniform groups",
      ],
      rows,
    ),
  );
}

export function safetySection({ safety }: QuickstartReport): Html | null {
  if (safety === null) return null;
  const panel = (measure: "violation" | "cleanPass", title: string): Html =>
    html`<figure><figcaption>${title}</figcaption>${bothSizes((size) => safetyChart(safety, measure, size))}</figure>`;
  const row = (name: string, arm: SafetyArm, which: "before" | "after"): string[] => {
    const figures = arm[which];
    const cell = (rate: number): string => `${percent(rate)} (${percentSpan(intervalOf(rate, figures.n))})`;
    return [
      name,
      which,
      whole(figures.n),
      cell(figures.pass),
      cell(figures.violation),
      cell(figures.cleanPass),
    ];
  };
  return section(
    "Safety",
    html`The same policy, the same tasks, two returns. In these tasks a forbidden short cut is at hand that satisfies the verifier. Plain reward
      counts the verdict alone; with safety in the return, an alert counts against the chunk that caused it.`,
    html`<div class="pair">${panel("violation", "Episodes with a violation")}${panel("cleanPass", "Passed without a violation")}</div>`,
    numbers(
      "before and after",
      ["return", "", "tasks", "pass", "violations", "clean pass"],
      [
        row("plain", safety.plain, "before"),
        row("plain", safety.plain, "after"),
        row("with safety", safety.safe, "before"),
        row("with safety", safety.safe, "after"),
      ],
    ),
  );
}

export function familySection({ families }: QuickstartReport): Html | null {
  if (families.length === 0) return null;
  const rows = families.map((row) => [
    row.family,
    row.domain,
    whole(row.after.n),
    percent(row.before.pass),
    percentSpan(intervalOf(row.before.pass, row.before.n)),
    percent(row.after.pass),
    percentSpan(intervalOf(row.after.pass, row.after.n)),
  ]);
  return section(
    "Families of tasks",
    html`Held-out pass rate, from before (ring) to after (dot); the faint bar is the 95% interval of after. Few tasks a family make wide intervals.`,
    bothSizes((size) => familyChart(families, size)),
    numbers(
      "each family",
      ["family", "domain", "tasks", "before", "95% interval", "after", "95% interval"],
      rows,
      2,
    ),
  );
}

export function timeSection({ phases, throughput }: QuickstartReport): Html {
  return section(
    "Where the time went",
    html`${whole(throughput.sampledTokensPerSecond)} tokens sampled a second, ${figure(throughput.episodesPerSecond)} episodes a second,
      ${whole(throughput.trainTokensPerSecond)} tokens trained a second. Parts of the installation run side by side.`,
    bothSizes((size) => phaseChart(phases, size)),
    numbers(
      "seconds",
      ["phase", "seconds"],
      phases.map((phase) => [phase.name, phase.seconds.toFixed(1)]),
    ),
  );
}

export function exampleSection({ examples, headline }: QuickstartReport): Html | null {
  if (examples.length === 0) return null;
  return section(
    "Episodes",
    html`${examples.length === 1 ? "One" : "A few"} of the ${whole(headline.episodes)} that were recorded, chunk by chunk as the policy acted and saw. Any other: <code>./ale episodes ls</code>, then <code>./ale episodes show ID</code>.`,
    html`<div class="episodes">${examples.map(exampleCard)}</div>`,
    null,
  );
}

function exampleCard(example: ExampleEpisode): Html {
  const violated = example.chunks.some((chunk) => chunk.alerts.length > 0);
  const outcome =
    example.reward === null
      ? html`<span class="verdict fault">no verdict</span>`
      : html`<span class="verdict ${violated ? "fault" : example.reward > 0 ? "passed" : "failed"}">reward ${figure(example.reward)}${violated ? ", with a violation" : ""}</span>`;
  return html`<article class="episode">
    <h3>${example.title}</h3>
    <p class="meta"><span>${example.family}</span> ${outcome}</p>
    <p class="instruction">${example.instruction}</p>
    <ol class="chunks">${example.chunks.map(
      (chunk) => html`<li>
        <pre class="action">${chunk.action}</pre>
        ${chunk.observation === "" ? null : html`<pre class="observation">${chunk.observation}</pre>`}
        ${chunk.alerts.map(
          (alert) =>
            html`<p class="alert"><strong>▲ ${alert.severity} · ${alert.rule}</strong> <span class="technique">${alert.technique}</span><span class="evidence">${alert.evidence}</span></p>`,
        )}
      </li>`,
    )}</ol>
    <p class="command"><code>./ale episodes show ${example.episode}</code></p>
  </article>`;
}

export function provenanceSection({ provenance, versions, machine, run }: QuickstartReport): Html {
  const list = (title: string, entries: Readonly<Record<string, string>>, kind = ""): Html =>
    html`<div class="${kind}"><h3>${title}</h3><dl>${Object.entries(entries).map(([name, value]) => html`<dt>${name}</dt><dd>${/^[0-9a-f]{16,}$/.test(value) ? html`<code>${value}</code>` : value}</dd>`)}</dl></div>`;
  return section(
    "Provenance",
    html`Every number above was computed in this run from sealed episode logs. <code>./ale episodes verify --run ${run}</code> checks their hash chains.`,
    html`<div class="lists">${list("Run", provenance, "whole")}${list("Versions", versions)}${list("Machine", machine)}</div>`,
    null,
  );
}

const section = (title: string, lead: Html, figure: Html, below: Html | null): Html =>
  html`<section><h2>${title}</h2><p class="lead">${lead}</p>${figure}${below}</section>`;

/** The numbers behind a figure, folded away. The first `names` columns are text, the rest numbers. */
function numbers(
  what: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
  names = 1,
): Html {
  const kind = (i: number): string => (i < names ? "text" : "num");
  return html`<details><summary>The numbers: ${what}</summary><div class="scroll"><table>
    <thead><tr>${head.map((cell, i) => html`<th scope="col" class="${kind(i)}">${cell}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((cell, i) => (i === 0 ? html`<th scope="row" class="text">${cell}</th>` : html`<td class="${kind(i)}">${cell}</td>`))}</tr>`)}</tbody>
  </table></div></details>`;
}
