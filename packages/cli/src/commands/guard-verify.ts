import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { AleError, type EpisodeLog, scanEpisodeLog } from "@ale/core";
import {
  checkBundle,
  compareWithLog,
  type EvidenceBundle,
  type Finding,
  readBundle,
  signatureFinding,
} from "@ale/guard";
import { alarmFile } from "../alarms.ts";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { findIncident } from "../incidents.ts";
import type { Io } from "../io.ts";
import { readPem } from "../pem.ts";
import { printable } from "../printable.ts";
import { attachmentOf, renderEvidence } from "../report/evidence.ts";
import { findEpisode } from "../runs.ts";
import { lastWritten, SEALED } from "../seal.ts";
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
TARGET is a bundle (.html, .json), a log (.jsonl), or the id of an incident or an episode; without one, the log of imported alarms. Of a log the
first broken line is named, with why; then the run's state is asked whether it is the log that the run used. Of a bundle every step is told:
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
    const findings = isBundle
      ? await verifyBundle(target, { log: values.log, key }, io)
      : await verifyLog(await logPath(target, io, signal), io);
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
    io.result({ ok, target: resolve(target), sealed: seal === undefined ? null : !unsealed, findings });
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

async function logPath(target: string, io: Io, signal: AbortSignal): Promise<string> {
  if (target.startsWith("inc_")) return (await findIncident(io.home, target, signal)).listed.path;
  return (await findEpisode(io.home, target)).path;
}

async function verifyLog(path: string, io: Io): Promise<Finding[]> {
  const { log, fault } = await scanEpisodeLog(path);
  const what = "chain";
  if (fault !== null)
    return [
      {
        result: "fails",
        what,
        detail: `${path}, line ${fault.line} is broken (${fault.reason}): ${fault.detail}`,
      },
    ];
  if (log.tornBytes > 0)
    return [
      {
        result: "fails",
        what,
        detail: `${path}, line ${log.entries.length + 1} is torn: ${log.tornBytes} bytes without a newline, being written or cut off by a crash`,
      },
    ];
  const chain: Finding = {
    result: "holds",
    what,
    detail: `${log.entries.length} lines, last hash ${log.head}`,
  };
  return [chain, ...sealFinding(path, log, io), ...(await witnessFinding(path, log, io))];
}

/** A line cut off at the end leaves a sound chain: only the seal says that there was no more. The log of alarms only ever grows. */
function sealFinding(path: string, log: EpisodeLog, io: Io): Finding[] {
  const what = "seal";
  if (path === alarmFile(io.home)) return [];
  if (log.sealed)
    return [{ result: "holds", what, detail: "the last line seals it: nothing is missing behind it" }];
  const detail = `not sealed: the end may be missing, or the episode still runs or was killed; ${lastWritten(log)}`;
  return [{ result: "open", what, detail }];
}

async function witnessFinding(
  path: string,
  log: { readonly sealed: boolean; readonly head: string },
  io: Io,
): Promise<Finding[]> {
  const what = "witness";
  if (path === alarmFile(io.home)) return [];
  const witness = (await witnessesOf(io.home)).get(path);
  if (witness === undefined)
    return [
      {
        result: "open",
        what,
        detail: "no run's state names this log: a chain alone does not show that its end was cut off",
      },
    ];
  const against = contradiction(witness, log);
  if (against !== null) return [{ result: "fails", what, detail: `${against} (run ${witness.run})` }];
  const by = witness.head === null ? "names the episode" : "names its last hash";
  return [{ result: "holds", what, detail: `the state of run ${witness.run} ${by}` }];
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
  const said = log.witness.contradiction ?? `the state of run ${log.witness.run} named it`;
  return [{ result: "open", what, detail: `when it was made: ${said}; that run is not here` }];
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
