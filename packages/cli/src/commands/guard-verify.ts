import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { AleError } from "@ale/core";
import {
  checkBundle,
  compareWithLog,
  type EvidenceBundle,
  type Finding,
  readBundle,
  signatureFinding,
} from "@ale/guard";
import { alarmFile, alarmsOf } from "../alarms.ts";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { findIncident } from "../incidents.ts";
import type { Io } from "../io.ts";
import { readPem } from "../pem.ts";
import { printable } from "../printable.ts";
import { attachmentOf, renderEvidence } from "../report/evidence.ts";
import { findEpisode } from "../runs.ts";
import { SEALED } from "../seal.ts";
import { type LogSubject, verifyLog } from "../verify-log.ts";
import { contradiction, witnessesOf } from "../witnesses.ts";

/** `ale guard verify`: a log against its own chain, or a bundle against itself and the log that it came from. */

const usage = defineUsage({
  positionals: "[TARGET]",
  options: {
    log: {
      type: "string",
      value: "FILE",
      help: "compare a bundle with this log (default: the episode of that name here)",
    },
    sealed: SEALED,
    "public-key": {
      type: "string",
      value: "FILE",
      help: "a bundle must be signed by this Ed25519 key (PEM)",
    },
  },
  notes: `
TARGET is a bundle (.html, .json), a log (.jsonl), the id of an incident or an episode, or "last": the newest incident, as everywhere in ale guard
(ale episodes verify last: the newest episode). Without one it is the log of imported alarms. What was looked at stands in the first line. Of a log
the first broken line is named, with why; an empty one fails; then it is compared with what the run's state says of it and with what it was when it
was read before, and of an incident's it is said whether its alerts are still there. Of a bundle every step is told:
holds, fails, or open where what is at hand cannot say. Exits 1 when a step fails. A log without a seal is open: whether its end is missing, or the
episode still runs or was killed, a chain does not tell. It is said, and is a failure with --sealed.`,
});

export const guardVerify: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const target = positionals[0] ?? alarmFile(io.home);
    if (positionals[0] === undefined && !existsSync(target)) return sayNoAlarms(io);
    const isBundle = /\.(?:html|json)$/.test(target);
    const key = values["public-key"] === undefined ? undefined : readPem(values["public-key"]);
    if (key !== undefined && !isBundle)
      throw usageError(
        "--public-key is for bundles: a log is not signed",
        "name the .html or the .json of one",
      );
    const subject = isBundle ? { path: fileAt(target) } : await subjectOf(target, io, signal);
    const ofWhat = subject.incident === undefined ? "" : ` (${subject.incident.id} is of it)`;
    io.print(io.paint("dim", `${subject.path}${ofWhat}`));
    const findings = isBundle
      ? await verifyBundle(subject.path, { log: values.log, key }, io)
      : await verifyLog(subject, io.home);
    for (const finding of findings) sayFinding(finding, io);
    const holds = findings.every(({ result }) => result !== "fails");
    const seal = findings.find(({ what }) => what === "seal")?.result;
    const unsealed = seal === "open";
    const open = findings.some(({ result }) => result === "open");
    io.print(
      !holds
        ? io.paint("red", "it does not hold")
        : unsealed
          ? io.paint("yellow", "what is there holds; it is not sealed, so that its end may be missing")
          : open
            ? "what can be checked here holds"
            : io.paint("green", "all of it holds"),
    );
    const ok = holds && !(values.sealed && unsealed);
    io.result({
      ok,
      target: subject.path,
      incident: subject.incident?.id ?? null,
      sealed: seal === undefined ? null : !unsealed,
      findings,
    });
    return ok ? EXIT.ok : EXIT.failed;
  },
};

function sayNoAlarms(io: Io): number {
  io.print("there are no alarms to verify: no file was imported here (ale guard import FILE)");
  io.print("name a bundle, a log, an incident or an episode to verify that");
  io.result({ ok: true, target: null, findings: [] });
  return EXIT.ok;
}

function sayFinding({ result, what, detail }: Finding, io: Io): void {
  const colour = result === "holds" ? "green" : result === "fails" ? "red" : "yellow";
  io.print(`${io.paint(colour, result.padEnd(5))}  ${what.padEnd(9)}  ${printable(detail)}`);
}

/** What a word names: an incident, a file, or an episode. */
async function subjectOf(target: string, io: Io, signal: AbortSignal): Promise<LogSubject> {
  if (target === "last" || target.startsWith("inc_")) {
    const { listed, alarms } = await findIncident(io.home, target, signal);
    return { path: listed.path, incident: { ...listed, alarms: alarmsOf(alarms, listed.episode) } };
  }
  if (target.includes("/") || target.endsWith(".jsonl") || existsSync(target))
    return { path: fileAt(target) };
  return { path: (await findEpisode(io.home, target)).path };
}

/** Throws `file-not-found` and `file-not-a-file`. */
function fileAt(target: string): string {
  const found = statSync(target, { throwIfNoEntry: false });
  const next = "name a bundle (.html, .json), a log (.jsonl), or an incident: ale guard incidents";
  if (found === undefined) throw new AleError("file-not-found", `there is no file ${target}`, { next });
  if (found.isFile()) return resolve(target);
  const what = found.isDirectory() ? "a folder" : "a device or a pipe, not a file";
  throw new AleError("file-not-a-file", `${target} is ${what}: it holds no log and no bundle`, { next });
}

async function verifyBundle(
  path: string,
  { log: logFile, key }: { readonly log: string | undefined; readonly key: string | undefined },
  io: Io,
): Promise<Finding[]> {
  const text = await readText(path);
  const attached = path.endsWith(".html") ? attachmentOf(text) : { ok: true as const, json: text };
  if (!attached.ok) return [{ result: "fails", what: "page", detail: attached.why }];
  let raw: unknown;
  try {
    raw = JSON.parse(attached.json);
  } catch (error) {
    return [{ result: "fails", what: "bundle", detail: `not JSON: ${(error as Error).message}` }];
  }
  const read = readBundle(raw);
  if (!read.ok) return [{ result: "fails", what: "bundle", detail: read.why }];
  const { bundle } = read;
  return [
    ...(path.endsWith(".html") ? [pageFinding(text, bundle, attached.json)] : []),
    ...checkBundle(bundle, raw),
    signatureFinding(bundle, key),
    await originFinding(bundle, logFile, io),
    ...(await bundleWitness(bundle, io)),
  ];
}

/** The page is a function of its data: whatever else it says was put there later, or by another version. */
function pageFinding(text: string, bundle: EvidenceBundle, json: string): Finding {
  return text === renderEvidence(bundle, json)
    ? { result: "holds", what: "page", detail: "it says what its data say, and nothing else" }
    : {
        result: "fails",
        what: "page",
        detail: `it is not what its data give (made by ale ${bundle.made.software.ale ?? "?"}): changed, or made by another version. Trust the JSON`,
      };
}

/** The log that the bundle names, where it is here. */
async function originFinding(bundle: EvidenceBundle, logFile: string | undefined, io: Io): Promise<Finding> {
  const named = await findEpisode(io.home, logFile ?? bundle.incident.episode).catch((error: unknown) => {
    if (error instanceof AleError) return null;
    throw error;
  });
  if (named === null)
    return {
      result: "open",
      what: "log",
      detail: `episode ${bundle.incident.episode} is not here: name its log with --log FILE`,
    };
  return compareWithLog(bundle, named.path, await readBytes(named.path));
}

async function bundleWitness({ log, incident }: EvidenceBundle, io: Io): Promise<Finding[]> {
  const what = "witness";
  const witness = [...(await witnessesOf(io.home)).values()].find(
    ({ episode }) => episode === incident.episode,
  );
  if (witness !== undefined) {
    const against = contradiction(witness, log);
    return [
      against === null
        ? {
            result: "holds",
            what,
            detail: `the state of run ${witness.run} names the episode${witness.head === null ? "" : " by the same last hash"}`,
          }
        : { result: "fails", what, detail: `${against} (run ${witness.run})` },
    ];
  }
  if (log.witness === null)
    return [
      {
        result: "open",
        what,
        detail: "no run's state names the episode: nobody but its log says that it ended there",
      },
    ];
  const { run, contradiction: against } = log.witness;
  if (against !== null)
    return [{ result: "fails", what, detail: `when it was made: ${against} (run ${run})` }];
  return [
    {
      result: "open",
      what,
      detail: `when it was made the state of run ${run} named it; that run is not here`,
    },
  ];
}

const readText = async (path: string): Promise<string> => (await readBytes(path)).toString("utf8");

async function readBytes(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new AleError("file-not-found", `${basename(path)} cannot be read: ${String(cause)}`, {
      next: "name a bundle, a log, or an incident: ale guard incidents",
      cause,
    });
  }
}
