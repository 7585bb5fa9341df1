import type { Imported, ImportFault, ImportFormat, OutsideAlarmLine, OutsideImport } from "@ale/guard";
import type { NearActs } from "./acts-near.ts";
import type { AlarmFile } from "./alarm-file.ts";
import type { KnownImport } from "./alarms.ts";
import { EXIT } from "./exit-codes.ts";
import type { Io } from "./io.ts";
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

export function sayKnown({ file, read }: AlarmFile, before: KnownImport, io: Io): number {
  io.print(
    `${printable(file)} was imported already, at ${before.readAt}, as ${before.file}: nothing is added`,
  );
  sayFaults(read, io);
  const ok = read.faultCount === 0 && read.records > 0;
  if (read.records === 0) io.print(`${printable(file)} is empty: there is no record in it`);
  io.result({ ok, added: 0, known: read.alarms.length, importedAt: before.readAt, ...countsOf(read) });
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
  readonly unread: NearActs["unread"];
  /** A person said what the file is. */
  readonly named: boolean;
}

export function sayImported({ event, lines, read, unread, named }: Said, io: Io): number {
  const { file, skew, known, episodes } = event;
  for (const line of deepPrintable(lines.slice(0, SHOWN))) sayAlarm(line, io);
  if (lines.length > SHOWN) io.print(`and ${lines.length - SHOWN} more (--json has all)`);
  sayFaults(read, io);
  for (const { episode, why } of unread)
    io.print(`${io.paint("red", "unread")} ${printable(`${episode}: ${why}`)}`);
  sayRead(file, read, named, io);
  const count = (status: OutsideAlarmLine["status"]): number =>
    lines.filter((line) => line.status === status).length;
  const matched = count("matched");
  const ambiguous = count("ambiguous");
  const unmatched = count("unmatched");
  if (read.alarms.length > 0) {
    const already = known === 0 ? "" : `, ${known} were here already`;
    io.print(
      `${lines.length} alarms added${already}: ${matched} matched, ${ambiguous} ambiguous, ${unmatched} unmatched, against ${episodes} episodes`,
    );
  }
  if (skew.support > 0)
    io.print(
      `its clock is ${msText(Math.abs(skew.offsetMs))} ${skew.offsetMs >= 0 ? "ahead of" : "behind"} ours, give or take ${msText(skew.spreadMs)} (${skew.support} alarms agree)`,
    );
  const ok = read.faultCount === 0 && unread.length === 0 && read.records > 0;
  io.result({
    ok,
    added: lines.length,
    known,
    ...countsOf(read),
    matched,
    ambiguous,
    unmatched,
    skew,
    episodes,
    alarms: lines,
    unread,
  });
  return ok ? EXIT.ok : EXIT.failed;
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

function sayAlarm({ alarm, status, places, unexplained }: OutsideAlarmLine, io: Io): void {
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
  if (status === "ambiguous") io.print(`  ${percentText(unexplained).padStart(5)}  none of ours`);
}
