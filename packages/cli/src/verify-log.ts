import { type EpisodeLog, type LogScan, scanEpisodeLog } from "@ale/core";
import { type AlarmLine, type Finding, type IncidentHead, incidentsOf } from "@ale/guard";
import { alarmFile } from "./alarms.ts";
import { lastWritten } from "./seal.ts";
import { lineRanges } from "./text.ts";
import { type Knowledge, knowledgeOf } from "./witnesses.ts";

/** A log against its own chain, against what is known of it from elsewhere, and against the incident that is looked for in it. */
export interface LogSubject {
  readonly path: string;
  readonly incident?: Pick<IncidentHead, "id" | "alertLines"> & { readonly alarms: readonly AlarmLine[] };
}

/** Every step that can be taken; after a broken chain none can. */
export async function verifyLog(subject: LogSubject, home: string): Promise<Finding[]> {
  const { path } = subject;
  // Before the log is read: it may be growing.
  const knowledge = await knowledgeOf(home, path);
  const scan = await scanEpisodeLog(path);
  const { log } = scan;
  const broken = brokenChain(scan);
  if (broken !== null) return [broken];
  const isEmpty = log.entries.length === 0;
  // What is known of an empty one says what it had.
  const chain = isEmpty
    ? fails("chain", `there is nothing in ${path}`)
    : holds("chain", `${log.entries.length} lines, last hash ${log.head}`);
  if (path === alarmFile(home)) return [chain];
  return [chain, sealFinding(log), witnessFinding(log, knowledge), ...incidentFindings(log, subject)];
}

const holds = (what: string, detail: string): Finding => ({ result: "holds", what, detail });
const fails = (what: string, detail: string): Finding => ({ result: "fails", what, detail });
const open = (what: string, detail: string): Finding => ({ result: "open", what, detail });

function brokenChain({ log, fault }: LogScan): Finding | null {
  const { path, entries, tornBytes } = log;
  if (fault !== null)
    return fails("chain", `${path}, line ${fault.line} is broken (${fault.reason}): ${fault.detail}`);
  if (tornBytes > 0)
    return fails(
      "chain",
      `${path}, line ${entries.length + 1} is torn: ${tornBytes} bytes without a newline, being written or cut off by a crash`,
    );
  return null;
}

/** A line cut off at the end leaves a sound chain: only the seal says that there was no more. The log of alarms only ever grows. */
function sealFinding(log: EpisodeLog): Finding {
  return log.sealed
    ? holds("seal", "the last line seals it: nothing is missing behind it")
    : open(
        "seal",
        `not sealed: the end may be missing, or the episode still runs or was killed; ${lastWritten(log)}`,
      );
}

function witnessFinding(log: EpisodeLog, knowledge: Knowledge | null): Finding {
  const what = "witness";
  const against = knowledge?.against(log) ?? null;
  if (against !== null) return fails(what, `${against} (run ${knowledge?.run})`);
  const witness = knowledge?.witness(log.path);
  if (witness === undefined)
    return open(what, "no run's state names this log: a chain alone does not show that its end was cut off");
  const by = witness.head === null ? "names the episode" : "names its last hash";
  return holds(what, `the state of run ${witness.run} ${by}`);
}

function incidentFindings(log: EpisodeLog, { incident }: LogSubject): Finding[] {
  if (incident === undefined) return [];
  const { id, alertLines, alarms } = incident;
  const what = "incident";
  return incidentsOf(log.entries, alarms).some((one) => one.id === id)
    ? [
        holds(
          what,
          alertLines.length === 0
            ? `${id} rests on alarms`
            : `${id}: its alerts are there, ${alertLines.length === 1 ? "line" : "lines"} ${lineRanges(alertLines)}`,
        ),
      ]
    : [fails(what, `${id} is no longer in the log`)];
}
