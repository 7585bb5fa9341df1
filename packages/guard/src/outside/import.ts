import { AleError } from "@ale/core";
import { type ImportFault, isFault, isSkip, type OutsideAlarm, type ReadRecord } from "./alarm.ts";
import { isFlowLog, readFlows } from "./flow-logs.ts";
import { type FieldMap, readEve, readFalco, readGeneric } from "./formats.ts";
import type { Place, Split, Splitter } from "./split.ts";
import { JsonSplitter } from "./split-json.ts";
import { TableSplitter } from "./split-table.ts";

/**
 * Reads a file of somebody's alarms as it comes: JSON Lines, an array of JSON, CSV, or columns set apart by spaces. Every record is an alarm,
 * is counted as none with the reason, or is named as a fault with its place. Keeps the alarms in memory, not the file. Pure.
 */

export type ImportFormat = "suricata" | "falco" | "flow-log" | "generic";

export interface ImportOptions {
  /** Default: what most of the first records are. */
  readonly format?: ImportFormat;
  /** Needed for `generic`. */
  readonly map?: FieldMap;
}

export interface Imported {
  /** Null where there was nothing to tell it by. */
  readonly format: ImportFormat | null;
  /** What it was told by: so many of the first records. Null where it was named. */
  readonly guess: { readonly sample: number; readonly agree: number } | null;
  /** Records, readable or not. */
  readonly records: number;
  readonly alarms: readonly OutsideAlarm[];
  /** Records and flows that are sound and no alarm, and how many for which reason. */
  readonly skipped: number;
  readonly skippedFor: Readonly<Record<string, number>>;
  readonly faultCount: number;
  /** The first of them. */
  readonly faults: readonly ImportFault[];
}

export const SAMPLE = 64;
const HEAD_BYTES = 64 << 10;
const KEPT_FAULTS = 100;
const KEPT_REASONS = 50;

/** Of a whole text. Throws `import-format` where the format cannot be told. */
export function importAlarms(text: string, file: string, options: ImportOptions = {}): Imported {
  const reader = new AlarmReader(file, options);
  reader.push(Buffer.from(text));
  return reader.end();
}

export class AlarmReader {
  readonly #file: string;
  readonly #options: ImportOptions;
  #head: Uint8Array[] = [];
  #splitter: Splitter | undefined;
  /** Until the format is told. */
  #sample: Split[] = [];
  #guess: Imported["guess"] = null;
  #format: ImportFormat | undefined;
  #read: ((record: unknown) => readonly ReadRecord[]) | undefined;
  #records = 0;
  #lastLine = 0;
  readonly #alarms: OutsideAlarm[] = [];
  #skipped = 0;
  readonly #skippedFor = new Map<string, number>();
  #faultCount = 0;
  readonly #faults: ImportFault[] = [];

  constructor(file: string, options: ImportOptions = {}) {
    this.#file = file;
    this.#options = options;
    const format = options.format ?? (options.map === undefined ? undefined : "generic");
    if (format !== undefined) this.#settle(format);
  }

  /** Throws `import-format` where the format cannot be told. */
  push(chunk: Uint8Array): void {
    if (this.#splitter !== undefined) this.#take(this.#splitter.push(chunk));
    else {
      this.#head.push(chunk);
      if (this.#head.reduce((sum, { length }) => sum + length, 0) >= HEAD_BYTES) this.#open();
    }
  }

  /** The file was cut off there: what was read before is kept. */
  fault(message: string): void {
    this.#count({ line: this.#lastLine, offset: 0 }, message);
  }

  /** Throws `import-format` where the format cannot be told. */
  end(): Imported {
    this.#open();
    this.#take(this.#splitter!.end());
    if (this.#sample.length > 0) this.#tell();
    return {
      format: this.#format ?? null,
      guess: this.#guess,
      records: this.#records,
      alarms: this.#alarms,
      skipped: this.#skipped,
      skippedFor: Object.fromEntries(this.#skippedFor),
      faultCount: this.#faultCount,
      faults: this.#faults,
    };
  }

  #open(): void {
    if (this.#splitter !== undefined) return;
    const bytes = withoutMark(Buffer.concat(this.#head), this.#file);
    this.#head = [];
    const head = bytes.subarray(0, HEAD_BYTES).toString("latin1");
    const isJson = /^\s*[[{]/.test(head) || /\n\s*\{/.test(head);
    const onlyJson = this.#format === "suricata" || this.#format === "falco";
    this.#splitter =
      isJson || onlyJson ? new JsonSplitter(head) : new TableSplitter(this.#format === "generic");
    this.#take(this.#splitter.push(bytes));
  }

  #take(splits: readonly Split[]): void {
    if (this.#read !== undefined) {
      for (const split of splits) this.#one(split, this.#read);
      return;
    }
    for (const split of splits) this.#sample.push(split);
    if (this.#sample.filter(({ ok }) => ok).length >= SAMPLE) this.#tell();
  }

  #tell(): void {
    const kinds = this.#sample.flatMap((split) => (split.ok ? [kindOf(split.value)] : []));
    const votes = (["suricata", "falco", "flow-log"] as const)
      .map((kind) => ({ kind, agree: kinds.filter((one) => one === kind).length }))
      .sort((a, b) => b.agree - a.agree);
    const [{ kind, agree }] = votes as [(typeof votes)[number]];
    if (agree === 0) throw notTold(this.#file, this.#sample);
    this.#guess = { sample: kinds.length, agree };
    const read = this.#settle(kind);
    const waiting = this.#sample;
    this.#sample = [];
    for (const split of waiting) this.#one(split, read);
  }

  #settle(format: ImportFormat): (record: unknown) => readonly ReadRecord[] {
    this.#format = format;
    this.#read = readerOf(format, this.#options.map);
    return this.#read;
  }

  #one(split: Split, read: (record: unknown) => readonly ReadRecord[]): void {
    this.#records++;
    if (!split.ok) {
      this.#count(split.place, split.message);
      return;
    }
    const { line, element } = split.place;
    this.#lastLine = line;
    const found = read(split.value);
    for (const [i, one] of found.entries()) {
      if (isFault(one)) this.#count(split.place, one.fault);
      else if (isSkip(one)) this.#skip(one.skip);
      else {
        const id = `${this.#file}:${line}${element === undefined ? "" : `[${element}]`}`;
        this.#alarms.push({ raw: split.value, ...one, id: found.length === 1 ? id : `${id}#${i + 1}` });
      }
    }
  }

  #skip(reason: string): void {
    this.#skipped++;
    const known = this.#skippedFor.has(reason) || this.#skippedFor.size < KEPT_REASONS;
    const key = known ? reason : "others";
    this.#skippedFor.set(key, (this.#skippedFor.get(key) ?? 0) + 1);
  }

  #count(place: Place, message: string): void {
    this.#faultCount++;
    if (this.#faults.length < KEPT_FAULTS) this.#faults.push({ file: this.#file, ...place, message });
  }
}

function withoutMark(bytes: Buffer, file: string): Buffer {
  const isWide = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  if (isWide)
    throw new AleError("import-format", `${file} is UTF-16`, {
      next: "save it as UTF-8: iconv -f UTF-16 -t UTF-8",
    });
  // As space, so that places count it.
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.fill(" ", 0, 3) : bytes;
}

function kindOf(value: unknown): ImportFormat | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const has = (name: string): boolean => Object.hasOwn(value, name);
  if (has("event_type")) return "suricata";
  if (has("output_fields") || (has("rule") && has("priority"))) return "falco";
  return isFlowLog(value) ? "flow-log" : undefined;
}

function notTold(file: string, sample: readonly Split[]): AleError {
  const first = sample.find(({ ok }) => ok) ?? sample[0]!;
  const said = !first.ok
    ? first.message
    : typeof first.value === "object" && first.value !== null
      ? `its fields are ${Object.keys(first.value).slice(0, 6).join(", ")}`
      : "no object";
  return new AleError(
    "import-format",
    `${file}: neither Suricata EVE, nor Falco, nor a flow log (line ${first.place.line}: ${said})`,
    { next: "name it with --format, or give a map of its fields with --map (at, title, toIp, toPort …)" },
  );
}

function readerOf(
  format: ImportFormat,
  map: FieldMap | undefined,
): (record: unknown) => readonly ReadRecord[] {
  switch (format) {
    case "suricata":
      return (record) => [readEve(record)];
    case "falco":
      return (record) => [readFalco(record)];
    case "flow-log":
      return readFlows;
    case "generic":
      if (map === undefined)
        throw new AleError("import-format", "a generic import needs a map of its fields", {
          next: 'for example {"at": "time", "title": "rule.name", "toIp": "dst.ip", "toPort": "dst.port"}',
        });
      return (record) => [readGeneric(record, map)];
    default:
      return format satisfies never;
  }
}
