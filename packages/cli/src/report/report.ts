import { readFileSync } from "node:fs";
import { join } from "node:path";
import { deepPrintable } from "../printable.ts";
import type { QuickstartReport } from "./data.ts";
import { html, htmlPage } from "./html.ts";
import {
  curveSection,
  exampleSection,
  familySection,
  headlineSection,
  provenanceSection,
  safetySection,
  timeSection,
} from "./sections.ts";

const STYLE = readFileSync(join(import.meta.dirname, "style.css"), "utf8");

/**
 * One self-contained HTML page: no scripts, no requests (its own policy forbids them), light and dark, readable from a telephone to
 * a projector. A pure function of its data.
 */
export function renderReport(data: QuickstartReport): string {
  const report = deepPrintable(data);
  const main = html`<main>
${headlineSection(report)}
${curveSection(report)}
${safetySection(report)}
${familySection(report)}
${exampleSection(report)}
${timeSection(report)}
${provenanceSection(report)}
</main>`;
  return htmlPage({ title: report.title, style: STYLE, main });
}
