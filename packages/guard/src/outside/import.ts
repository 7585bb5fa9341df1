import { AleError } from "@ale/core";
import { type Imported, type ImportFault, isFault, type OutsideAlarm, type ReadRecord } from "./alarm.ts";
import { type FieldMap, readEve, readFalco, readFlow, readGeneric } from "./formats.ts";

/**
 * Reads a file of somebody's alarms. JSON Lines, one JSON array, CSV with a header, or space-separated flow records. Every record is
 * an alarm, is counted as skipped, or is named as a fault with its line. Pure.
 */

export type ImportFormat = "suricata" | "falco" | "flow-log" | "generic";

export interface ImportOptions {
  /** Default: told by the first record. */
  readonly format?: ImportFormat;
  /** Needed for `generic`. */
  readonly map?: FieldMap;
}

/** Throws `import-format` where the format cannot be told. */
export function importAlarms(text: string, file: string, options: ImportOptions = {}): Imported {
  const faults: ImportFault[] = [];
  const records = recordsOf(text, file, faults);
  const format = options.format ?? guess(records, file, options.map);
  const read = readerOf(format, options.map);
  const alarms: OutsideAlarm[] = [];
  let skipped = 0;
  for (const { line, value } of records) {
    const found = read(value);
    if (found === null) skipped++;
    else if (isFault(found)) faults.push({ file, line, message: found.fault });
    else alarms.push({ id: `${file}:${line}`, raw: value, ...found });
  }
  return { alarms, skipped, faults: faults.sort((a, b) => a.line - b.line) };
}

interface Located {
  readonly line: number;
  readonly value: unknown;
}

function recordsOf(text: string, file: string, faults: ImportFault[]): Located[] {
  const start = text.trimStart();
  if (start === "") return [];
  if (start.startsWith("[")) return arrayOf(text, file, faults);
  return start.startsWith("{") ? jsonLines(text, file, faults) : columns(text, file, faults);
}

function arrayOf(text: string, file: string, faults: ImportFault[]): Located[] {
  try {
    return (JSON.parse(text) as unknown[]).map((value, i) => ({ line: i + 1, value }));
  } catch (error) {
    faults.push({ file, line: 1, message: `not a whole JSON array: ${messageOf(error)}` });
    return [];
  }
}

function jsonLines(text: string, file: string, faults: ImportFault[]): Located[] {
  return text.split("\n").flatMap((line, i): Located[] => {
    if (line.trim() === "") return [];
    try {
      return [{ line: i + 1, value: JSON.parse(line) as unknown }];
    } catch (error) {
      faults.push({ file, line: i + 1, message: `not JSON: ${messageOf(error)}` });
      return [];
    }
  });
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The default order of a version 2 flow record, where a file has no header. */
const FLOW_FIELDS =
  "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status".split(
    " ",
  );

function columns(text: string, file: string, faults: ImportFault[]): Located[] {
  const lines = text.split(/\r?\n/);
  const first = lines.findIndex((line) => line.trim() !== "");
  const comma = lines[first]!.includes(",");
  const cells = (line: string): string[] => (comma ? csvCells(line) : line.trim().split(/\s+/));
  const head = cells(lines[first]!);
  const hasHeader = head.some((cell) => /^(?:start|srcaddr|src_ip|timestamp|action)$/i.test(cell));
  const names = hasHeader ? head.map((name) => name.toLowerCase()) : FLOW_FIELDS;
  return lines.flatMap((line, i): Located[] => {
    if (line.trim() === "" || (hasHeader && i === first)) return [];
    const values = cells(line);
    if (values.length !== names.length) {
      faults.push({
        file,
        line: i + 1,
        message: `${values.length} columns where ${names.length} are expected`,
      });
      return [];
    }
    return [{ line: i + 1, value: Object.fromEntries(names.map((name, column) => [name, values[column]])) }];
  });
}

/** Fields with commas are in quotes, quotes in them doubled (RFC 4180); a field does not span lines here. */
function csvCells(line: string): string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? "",
  );
}

function guess(records: readonly Located[], file: string, map: FieldMap | undefined): ImportFormat {
  if (map !== undefined) return "generic";
  const [first] = records;
  const has = (name: string): boolean =>
    typeof first?.value === "object" && first.value !== null && Object.hasOwn(first.value, name);
  if (first === undefined || has("event_type")) return "suricata";
  if (has("output_fields") || (has("rule") && has("priority"))) return "falco";
  if (has("srcaddr") || has("action") || has("disposition")) return "flow-log";
  throw new AleError("import-format", `${file}: neither Suricata EVE, nor Falco, nor a flow log`, {
    next: "name the format, or give a map of its fields (at, title, toIp, toPort …)",
  });
}

function readerOf(format: ImportFormat, map: FieldMap | undefined): (record: unknown) => ReadRecord {
  switch (format) {
    case "suricata":
      return readEve;
    case "falco":
      return readFalco;
    case "flow-log":
      return readFlow;
    case "generic":
      if (map === undefined)
        throw new AleError("import-format", "a generic import needs a map of its fields", {
          next: 'for example {"at": "time", "title": "rule.name", "toIp": "dst.ip", "toPort": "dst.port"}',
        });
      return (record) => readGeneric(record, map);
    default:
      return format satisfies never;
  }
}
