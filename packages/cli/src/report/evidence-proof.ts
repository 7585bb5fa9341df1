import { type Event, sha256 } from "@ale/core";
import { type EvidenceBundle, signatureText } from "@ale/guard";
import type { BundleLine } from "./evidence-lines.ts";
import { type Html, html } from "./html.ts";

/** The part of an evidence page that proves the rest: exact lines, hashes, and how to check them without this program. */

export function proofSection(
  { log, chain, full, digest, signature }: EvidenceBundle,
  lines: readonly BundleLine[],
): Html {
  const row = (name: string, value: string): Html => html`<dt>${name}</dt><dd><code>${value}</code></dd>`;
  return html`<section>
    <h2>Proof</h2>
    <p class="lead">Each line of the episode's log has the hash of the line before in it, so that nothing can be changed, left out or put in without a trace.
      ${full === null ? "The log is too large to be in here: with it at hand, ale guard verify compares every line." : "The whole log is in the attached JSON, so this file proves by itself that the lines below belong to the last hash."}</p>
    <dl class="hashes">
      ${row("log", `${log.file}, ${log.events} lines, ${log.bytes} bytes`)}
      ${row(log.sealed ? "seal (the episode's identity)" : "last hash (not sealed)", log.head)}
      ${row("SHA-256 of the log", log.sha256)}
      ${row("digest of the bundle", digest)}
      ${row("signature over it", signatureText(signature))}
      ${row("witness", witnessText(log))}
    </dl>
    <h3>The lines that it rests on</h3>
    <ol class="lines">${lines.map(lineItem)}</ol>
    <details><summary>The hash of every line (${chain.length})</summary>
      <ol class="chain">${chain.map((hash) => html`<li><code>${hash}</code></li>`)}</ol>
    </details>
  </section>`;
}

function witnessText({ witness }: EvidenceBundle["log"]): string {
  if (witness === null) return "no run's state names this episode";
  if (witness.contradiction !== null)
    return `the state of run ${witness.run} contradicts it: ${witness.contradiction}`;
  return `the state of run ${witness.run} ${witness.head === null ? "names the episode" : "names its last hash"}`;
}

/** What a line is, its time and its exact text behind it. */
const lineItem = ({ seq, text, type, t, event }: BundleLine): Html =>
  html`<li><details><summary><span class="seq">${seq + 1}</span> <strong>${type}</strong> <span>${(t / 1_000).toFixed(3)} s ${event === undefined ? "" : gistOf(event)}</span></summary><pre>${text}</pre></details></li>`;

/** A few words of an event. */
function gistOf(event: Event): string {
  switch (event.type) {
    case "telemetry": {
      const { kind, net, process } = event.record;
      return clipped([kind, net?.host ?? net?.ip ?? process?.command]);
    }
    case "alert":
      return clipped([event.alert.severity, event.alert.rule]);
    case "response":
      return clipped([event.response, event.rule]);
    case "message":
      return event.role;
    case "tool.result":
      return clipped([event.callId]);
    case "episode.end":
      return event.termination;
    default:
      return "";
  }
}

const clipped = (words: readonly (string | undefined)[]): string =>
  words
    .filter((word) => word !== undefined)
    .join(" ")
    .slice(0, 120);

/** How to check by hand, and the bundle itself. Tests run these very commands. */
export function handCheck({ incident, log, full }: EvidenceBundle, json: string): Html {
  const name = `${incident.id}.json`;
  const data = Buffer.from(json).toString("base64");
  return html`<section>
    <h2>Check it yourself</h2>
    <p class="lead"><a download="${name}" href="data:application/json;base64,${data}">Save ${name}</a>, the same as data (SHA-256 <code>${sha256(json)}</code>). With ALE:</p>
    <pre>ale guard verify ${name}</pre>
    <p class="lead">Without it, with jq and coreutils. ${full === null ? "Of each line shown, the hash is that of its text without its own hash:" : "The log unpacks to the SHA-256 above; of each line, the hash is that of its text without its own hash, and the next line begins from it as prev:"}</p>
    <pre>${commandsFor(name, full !== null)}</pre>
    <p class="lead">The last hash printed is ${log.sealed ? "the seal" : "that of the last line"}: <code>${log.head}</code>. Above, control characters of the agent's text are made visible; the attached JSON has them as they were.</p>
  </section>`;
}

/** The sed expression takes a line's own hash out of it: it stands once, before `prev`, at the end. */
export const STRIP_HASH = `s/"hash":"[0-9a-f]{64}",("prev":"[0-9a-f]{64}","seq":[0-9]+,"t":[0-9.e+-]+,"v":1\\})$/\\1/`;

export function commandsFor(file: string, whole: boolean): string {
  const each = `while IFS= read -r line; do
  printf %s "$line" | sed -E '${STRIP_HASH}' | tr -d '\\n' | sha256sum
done`;
  return whole
    ? `jq -r .full.data ${file} | base64 -d | gunzip > log.jsonl
sha256sum log.jsonl
${each} < log.jsonl`
    : `jq -r '.lines[].text' ${file} | ${each}`;
}
