import type {
  ClockStretch,
  Imported,
  ImportFault,
  ImportFormat,
  OutsideAlarmLine,
  OutsideImport,
  Unmatched,
} from "@ale/guard";
import type { NearActs } from "./acts-near.ts";
import type { AlarmFile } from "./alarm-file.ts";
import type { KnownImport } from "./alarms.ts";
import { EXIT } from "./exit-codes.ts";
import type { Io } from "./io.ts";
import type { MatchedAgain } from "./match-again.ts";
import { deepPrintable, printable } from "./printable.ts";
import { msText, percentText } from "./text.ts";

/** What an import says: every record is accounted for, and every alarm that was not placed has a reason. */

export const FORMATS = ["suricata", "falco", "flow", "json"] as const;
export const FORMAT_OF: Readonly<Record<(typeof FORMATS)[number], ImportFormat>> = {
  suricata: "suricata",
  falco: "falco",
  flow: "flow-log",
  json: "generic",
};
const NAME_OF: Readonly<Record<ImportFormat, string>> = {
  suricata: "Suricata EVE",
  falco: "Falco JSON",
  "flow-log": "a flow log",
  generic: "JSON with a map",
};

const SHOWN = 20;

export function sayKnown(
  { file, read }: AlarmFile,
  before: KnownImport,
  again: MatchedAgain,
  io: Io,
): number {
  io.print(
    `${printable(file)} was imported already, at ${before.readAt}, as ${before.file}: nothing is added`,
  );
  sayFaults(read, io);
  sayAgain(again, io);
  const ok = read.faultCount === 0 && read.records > 0 && again.unread.length === 0;
  if (read.records === 0) io.print(`${printable(file)} is empty: there is no record in it`);
  io.result({
    ok,
    added: 0,
    known: read.alarms.length,
    importedAt: before.readAt,
    ...countsOf(read),
    rematched: again.lines,
  });
  return ok ? EXIT.ok : EXIT.failed;
}

/** The same in text and in JSON. */
const countsOf = ({ format, guess, records, skipped, skippedFor, faultCount, faults }: Imported) => ({
  format,
  guess,
  records,
  skipped,
  skippedFor,
  faultCount,
  faults,
});

function sayFaults({ faultCount, faults }: Pick<Imported, "faultCount" | "faults">, io: Io): void {
  for (const fault of faults.slice(0, SHOWN))
    io.print(`${io.paint("red", "unreadable")} ${printable(`${placeOf(fault)}: ${fault.message}`)}`);
  if (faultCount > SHOWN) {
    const kept = faultCount > faults.length ? `the first ${faults.length}` : "all";
    io.print(`and ${faultCount - SHOWN} more that cannot be read (--json names ${kept})`);
  }
}

const placeOf = ({ file, line, offset, element }: ImportFault): string =>
  `${file}:${line}${element === undefined ? "" : `, element ${element}`}${offset === 0 ? "" : ` (byte ${offset})`}`;

export interface Said {
  readonly event: OutsideImport;
  readonly lines: readonly OutsideAlarmLine[];
  readonly read: Imported;
  /** Alarms of before. */
  readonly again: MatchedAgain;
  readonly unread: NearActs["unread"];
  /** A person said what the file is. */
  readonly named: boolean;
}

export function sayImported({ event, lines, read, again, unread, named }: Said, io: Io): number {
  const { file, skew, known, episodes, clocks = [] } = event;
  for (const line of deepPrintable(lines.slice(0, SHOWN))) sayAlarm(line, io);
  if (lines.length > SHOWN) io.print(`and ${lines.length - SHOWN} more (--json has all)`);
  sayFaults(read, io);
  sayUnread(unread, io);
  sayRead(file, read, named, io);
  if (read.alarms.length > 0) {
    const already = known === 0 ? "" : `, ${known} were here already`;
    io.print(`${lines.length} alarms added${already}: ${countsText(lines)}, against ${episodes} episodes`);
    sayClocks(clocks, io);
  }
  sayAgain(again, io);
  const ok = read.faultCount === 0 && unread.length === 0 && again.unread.length === 0 && read.records > 0;
  io.result({
    ok,
    added: lines.length,
    known,
    ...countsOf(read),
    ...placedCounts(lines),
    skew,
    clocks,
    episodes,
    alarms: lines,
    rematched: again.lines,
    unread,
  });
  return ok ? EXIT.ok : EXIT.failed;
}

function sayUnread(unread: NearActs["unread"], io: Io): void {
  for (const { episode, why } of unread)
    io.print(`${io.paint("red", "unread")} ${printable(`${episode}: ${why}`)}`);
}

/** What became of alarms of before, where there is something to say. */
function sayAgain({ pending, lines, episodes, unread }: MatchedAgain, io: Io): void {
  if (pending === null || pending === 0) return;
  for (const line of deepPrintable(lines.slice(0, SHOWN))) sayAlarm(line, io);
  if (lines.length > SHOWN) io.print(`and ${lines.length - SHOWN} more (--json has all)`);
  sayUnread(unread, io);
  const landed =
    lines.length === 0
      ? "none lands elsewhere than before"
      : `${lines.length} land elsewhere: ${countsText(lines)}`;
  io.print(
    `${pending} alarms of before that were not matched, compared again with ${episodes} episodes: ${landed}`,
  );
}

export function sayMatched(again: MatchedAgain, alarms: number, io: Io): number {
  sayAgain(again, io);
  if (alarms === 0) io.print("there are no alarms: no file was imported here (ale guard import FILE)");
  else if (again.pending === 0) io.print(`all ${alarms} alarms are matched`);
  const ok = again.unread.length === 0;
  io.result({
    ok,
    alarms,
    pending: again.pending,
    episodes: again.episodes,
    ...placedCounts(again.lines),
    rematched: again.lines,
    unread: again.unread,
  });
  return ok ? EXIT.ok : EXIT.failed;
}

/** How many alarms were placed, and why the others were not. */
function placedCounts(lines: readonly OutsideAlarmLine[]) {
  const count = (status: OutsideAlarmLine["status"]): number =>
    lines.filter((line) => line.status === status).length;
  const unmatchedFor: Record<string, number> = {};
  for (const { why } of lines)
    if (why !== undefined) unmatchedFor[why.code] = (unmatchedFor[why.code] ?? 0) + 1;
  return {
    matched: count("matched"),
    ambiguous: count("ambiguous"),
    unmatched: count("unmatched"),
    unmatchedFor,
  };
}

const REASON: Readonly<Record<Unmatched["code"], string>> = {
  "no-facts": "name nothing to compare",
  "no-episode": "when nothing was recorded",
  "no-act": "like nothing that was recorded",
  "other-time": "like what was recorded at another time",
  chance: "may be chance",
};

function countsText(lines: readonly OutsideAlarmLine[]): string {
  const { matched, ambiguous, unmatched, unmatchedFor } = placedCounts(lines);
  const why = Object.entries(unmatchedFor).map(([code, n]) => `${n} ${REASON[code as Unmatched["code"]]}`);
  return `${matched} matched, ${ambiguous} ambiguous, ${unmatched} unmatched${why.length === 0 ? "" : ` (${why.join(", ")})`}`;
}

const SHOWN_CLOCKS = 8;

function sayClocks(clocks: readonly ClockStretch[], io: Io): void {
  for (const clock of deepPrintable(clocks.slice(0, SHOWN_CLOCKS))) {
    const { sensor, sensors, from, to, offsetMs, spreadMs, driftPpm, support } = clock;
    const whose =
      sensors > 1
        ? `the clock of ${sensors} sensors`
        : sensor === null
          ? "its clock"
          : `the clock of ${sensor}`;
    const alone = clocks.filter((one) => one.sensor === sensor && one.sensors === sensors).length === 1;
    const iso = (ms: number): string => new Date(ms).toISOString().slice(0, 19);
    const when = alone ? "" : ` from ${iso(from)} to ${iso(to)}`;
    const drift =
      driftPpm === 0 ? "" : `, ${Math.abs(driftPpm).toFixed(0)} ppm too ${driftPpm > 0 ? "fast" : "slow"}`;
    io.print(
      `${whose} is ${msText(Math.abs(offsetMs))} ${offsetMs >= 0 ? "ahead of" : "behind"} ours${when}, give or take ${msText(spreadMs)}${drift} (${support} alarms agree)`,
    );
  }
  if (clocks.length > SHOWN_CLOCKS)
    io.print(`and ${clocks.length - SHOWN_CLOCKS} more stretches of clocks (--json has all)`);
}

/** What it was taken for, and what became of each record. */
function sayRead(file: string, read: Imported, named: boolean, io: Io): void {
  const { format, guess, records, alarms, skipped, skippedFor, faultCount } = read;
  if (records === 0) {
    io.print(`${io.paint("red", "empty")} ${printable(file)}: there is no record in it`);
    return;
  }
  if (guess !== null && format !== null) {
    const share = guess.agree === guess.sample ? "all" : `${guess.agree}`;
    io.print(
      `${printable(file)} was read as ${NAME_OF[format]}: ${share} of the first ${guess.sample} records are; --format ${FORMATS.join("|")} says otherwise`,
    );
  } else if (named && format !== null) io.print(`${printable(file)} was read as ${NAME_OF[format]}`);
  const why = Object.entries(skippedFor)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 8)
    .map(([reason, n]) => `${n} ${reason}`)
    .join(", ");
  io.print(
    `${records} records: ${alarms.length} alarms, ${skipped} that are none${why === "" ? "" : ` (${printable(why)})`}, ${faultCount} cannot be read`,
  );
}

function sayAlarm({ alarm, status, places, unexplained, why }: OutsideAlarmLine, io: Io): void {
  const colour = status === "matched" ? "green" : status === "ambiguous" ? "yellow" : "dim";
  const to = [alarm.toIp ?? alarm.host, alarm.toPort].filter((part) => part !== null).join(":");
  io.print(
    `${io.paint(colour, status.padEnd(9))} ${alarm.id}: ${alarm.title}${to === "" ? "" : `, to ${to}`}`,
  );
  const shown = status === "matched" ? places.slice(0, 3) : status === "ambiguous" ? places.slice(0, 5) : [];
  for (const { episode, chunk, callId, confidence } of shown)
    io.print(
      `  ${percentText(confidence).padStart(5)}  ${episode} ${chunk === null ? "outside the agent's time" : `chunk ${chunk}`}${callId === null ? "" : ` (${callId})`}`,
    );
  if (why !== undefined) io.print(`         ${why.detail}`);
  if (status === "ambiguous") io.print(`  ${percentText(unexplained).padStart(5)}  none of ours`);
}
