import { basename, dirname, join, resolve } from "node:path";
import { bundleOf, EvidenceBundle, type EvidenceWitness, signed } from "@ale/guard";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { type ReadIncident, readIncident } from "../incidents.ts";
import { makeFolder, writeWhole } from "../out-files.ts";
import { readPem } from "../pem.ts";
import { renderEvidence } from "../report/evidence.ts";
import { RULE_PACKS, rulesInWords } from "../rule-titles.ts";
import { softwareVersions } from "../versions.ts";

/** `ale guard export`: an incident as two files that can be handed over. */

const usage = defineUsage({
  positionals: "ID",
  options: {
    out: {
      type: "string",
      value: "PATH",
      help: "a folder, or the name of the HTML file (default: the working directory)",
    },
    rules: RULE_PACKS,
    "sign-key": {
      type: "string",
      value: "FILE",
      help: "sign it with this private Ed25519 key (PEM)",
    },
  },
  notes: `
Writes ID.html, one page that opens without a network and without scripts, and ID.json, the same as data: the exact lines of the log, the hash of
every line, the whole log where it is small, and how to check all of it by hand. The page carries the JSON within it, so that either is enough.
docs/reference/evidence-bundle.md describes the format. Where the log is not the one that was read before, or that the run used, both say so and the
exit code is 1. Check one with: ale guard verify FILE
With --sign-key whoever has your public key can see that it is yours: ale guard verify FILE --public-key key.pub.pem
example: ale guard export last --out evidence/`,
});

export const guardExport: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const key = values["sign-key"] === undefined ? undefined : readPem(values["sign-key"]);
    const read = await readIncident(io.home, positionals[0]!, signal);
    const { ale, node } = await softwareVersions();
    const unsigned = bundleOf({
      incident: read.incident,
      log: { file: basename(read.log.path), bytes: read.bytes },
      witness: witnessOf(read),
      alarms: { file: basename(read.alarms.path), bytes: read.alarms.bytes },
      ruleOf: rulesInWords(values.rules),
      made: { at: new Date().toISOString(), software: { ale, node } },
    });
    const bundle = key === undefined ? unsigned : signed(unsigned, key);
    const text = `${JSON.stringify(bundle, null, 1)}\n`;
    const html = htmlPath(values.out, bundle.incident.id);
    const json = html.replace(/\.html$/, ".json");
    makeFolder(dirname(html));
    writeWhole(json, text);
    writeWhole(html, renderEvidence(EvidenceBundle.parse(JSON.parse(text)), text));
    io.print(html);
    io.print(json);
    if (read.against !== null)
      io.note(`${io.paint("red", "its log does not hold, and the bundle says so:")} ${read.against}`);
    io.note(`check it with: ale guard verify ${html}`);
    io.result({
      ok: read.against === null,
      id: bundle.incident.id,
      html,
      json,
      digest: bundle.digest,
      signed: key !== undefined,
      head: bundle.log.head,
      against: read.against,
    });
    return read.against === null ? EXIT.ok : EXIT.failed;
  },
};

function htmlPath(out: string | undefined, id: string): string {
  if (out === undefined) return resolve(`${id}.html`);
  return out.endsWith(".html") ? resolve(out) : join(resolve(out), `${id}.html`);
}

/** What the run's state says of the log; where only the index contradicts it, that. */
function witnessOf({ run, witness, against }: ReadIncident): EvidenceWitness | null {
  if (witness === undefined && against === null) return null;
  return { run, head: witness?.head ?? null, contradiction: against };
}
