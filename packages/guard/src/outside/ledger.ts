import { digestOf, Severity, TelemetryProcess } from "@ale/core";
import { z } from "zod";
import { actKey } from "../incident-cause.ts";
import type { RecordedAct } from "./acts.ts";
import type { OutsideAlarm } from "./alarm.ts";
import type { Anchor, ClockStretch } from "./clock.ts";
import { FLOOR_MS } from "./explanation.ts";
import { FieldMap } from "./formats.ts";
import type { Landing } from "./landing.ts";

/**
 * What is kept of imported alarms: lines of a log of their own, in the format of episode logs, because a sealed log is never written again.
 * An `outside.import` says what was read; the `outside.alarm` lines after it say what each alarm says and where it landed, then. An
 * `outside.match` says that alarms which were not placed were compared again; the `outside.alarm` lines after it supersede earlier ones.
 */

const count = z.number().int().nonnegative();
const text = z.string().nullable();

/** What alarms did not always have has a default: lines are kept for good. */
const Alarm = z.object({
  id: z.string(),
  at: z.number(),
  durationMs: z.number().default(0),
  source: z.enum(["suricata", "falco", "flow-log", "generic"]),
  sensor: text.default(null),
  title: z.string(),
  severity: Severity,
  protocol: z.enum(["tcp", "udp", "icmp", "other"]).nullable(),
  fromIp: text,
  fromPort: z.number().nullable(),
  toIp: text,
  toPort: z.number().nullable(),
  host: text,
  pid: z.number().nullable(),
  program: text.default(null),
  command: text,
  path: text.default(null),
  containers: z.array(z.string()).readonly().default([]),
  raw: z.unknown(),
}) satisfies z.ZodType<OutsideAlarm>;

/** An act in an episode's log. */
export const AlarmPlace = z.object({
  episode: z.string(),
  /** Line of the act's first record. */
  seq: count,
  /** Null: before the agent began or after it had ended. */
  chunk: count.nullable(),
  callId: z.string().nullable(),
  flow: z.string().nullable(),
  at: z.number(),
  process: TelemetryProcess.optional(),
  confidence: z.number(),
  residualMs: z.number(),
});
export type AlarmPlace = z.infer<typeof AlarmPlace>;

const Clock = z.object({
  sensor: text,
  /** Sensors that were taken together. */
  sensors: count,
  from: z.number(),
  to: z.number(),
  offsetMs: z.number(),
  driftPpm: z.number(),
  spreadMs: z.number(),
  support: count,
}) satisfies z.ZodType<ClockStretch>;

export const OutsideImport = z.object({
  type: z.literal("outside.import"),
  file: z.string(),
  sha256: z.string(),
  bytes: count,
  format: z.enum(["suricata", "falco", "flow-log", "generic"]).nullable(),
  map: FieldMap.nullable(),
  /** Alarms that follow. */
  alarms: count,
  /** Alarms that were here already, from another file. */
  known: count,
  /** Records, readable or not. */
  records: count.optional(),
  skipped: count,
  skippedFor: z.record(z.string(), count).optional(),
  /** The first of them. */
  faults: z.array(
    z.object({
      line: count,
      offset: count.optional(),
      element: count.optional(),
      message: z.string(),
    }),
  ),
  faultCount: count,
  /** Of the sensor and time that the most alarms agree on. */
  skew: z.object({ offsetMs: z.number(), spreadMs: z.number(), support: count }),
  /** The first of what each sensor's clock said, by time. */
  clocks: z.array(Clock).optional(),
  /** Episodes whose acts were compared. */
  episodes: count,
});
export type OutsideImport = z.infer<typeof OutsideImport>;

/** Alarms of before, compared with what has been recorded since. */
export const OutsideMatch = z.object({
  type: z.literal("outside.match"),
  /** Alarms that were looked at. */
  pending: count,
  /** Those that landed elsewhere than before: they follow. */
  alarms: count,
  episodes: count,
  clocks: z.array(Clock),
});
export type OutsideMatch = z.infer<typeof OutsideMatch>;

export const LANDING_STATUS = ["matched", "ambiguous", "unmatched"] as const;

export const OutsideAlarmLine = z.object({
  type: z.literal("outside.alarm"),
  alarm: Alarm,
  /** Tells records apart that came in several files. */
  digest: z.string(),
  /** `matched`: one cause is twice as likely as everything else together. `ambiguous`: several could have been it. `unmatched`: none. */
  status: z.enum(LANDING_STATUS),
  /** One a cause, the likeliest first; the confidences of acts of one cause are summed. */
  places: z.array(AlarmPlace),
  unexplained: z.number(),
  skewMs: z.number(),
  /** Where it is probably nobody's: why. */
  why: z
    .object({
      code: z.enum(["no-facts", "no-episode", "no-act", "other-time", "chance"]),
      detail: z.string(),
    })
    .optional(),
  /** The line of this log that it takes the place of: the same alarm, matched before more was recorded. */
  supersedes: count.optional(),
});
export type OutsideAlarmLine = z.infer<typeof OutsideAlarmLine>;

export const LedgerEvent = z.discriminatedUnion("type", [OutsideImport, OutsideMatch, OutsideAlarmLine]);

/** A line of an alarm, where it stands in the log. */
export interface AlarmLine {
  readonly seq: number;
  readonly hash: string;
  readonly line: OutsideAlarmLine;
}

/** Those that no later line takes the place of. In the order of the log. What was matched once stays. */
export function standingAlarms(lines: readonly AlarmLine[]): AlarmLine[] {
  const pending = new Map<number, string>();
  const superseded = new Set<number>();
  for (const { seq, line } of lines) {
    if (line.status !== "matched") pending.set(seq, line.digest);
    // Only the same alarm takes the place of one.
    if (line.supersedes !== undefined && pending.get(line.supersedes) === line.digest)
      superseded.add(line.supersedes);
  }
  return lines.filter(({ seq }) => !superseded.has(seq));
}

/** What matched alarms say of their sensors' clocks. */
export const anchorsOf = (lines: readonly AlarmLine[]): Anchor[] =>
  lines.flatMap(({ line: { alarm, status, places, skewMs } }): Anchor[] =>
    status === "matched"
      ? [
          {
            source: alarm.source,
            sensor: alarm.sensor,
            at: alarm.at,
            offsetMs: skewMs + places[0]!.residualMs,
          },
        ]
      : [],
  );

/** Whether two landings of one alarm say the same, however sure. */
export function isSameLanding(a: OutsideAlarmLine, b: OutsideAlarmLine): boolean {
  const said = ({ status, places }: OutsideAlarmLine): string =>
    [
      status,
      ...(status === "unmatched" ? [] : places.map(({ episode, seq }) => `${episode} ${seq}`).sort()),
    ].join("\n");
  return said(a) === said(b);
}

const MATCHED = 2 / 3;

/** The same record in two files gives the same. */
export const alarmDigest = (alarm: OutsideAlarm): string =>
  digestOf({ source: alarm.source, raw: alarm.raw });

/** The one that the most alarms agree on; zero where none do. */
export function mainClock(clocks: readonly ClockStretch[]): OutsideImport["skew"] {
  const none = { offsetMs: 0, spreadMs: FLOOR_MS, support: 0 };
  const { offsetMs, spreadMs, support } = clocks.reduce<OutsideImport["skew"]>(
    (most, one) => (one.support > most.support ? one : most),
    none,
  );
  return { offsetMs, spreadMs, support };
}

/** Where an alarm landed, one place a cause. */
export function alarmLineOf(landing: Landing<RecordedAct>): OutsideAlarmLine {
  const byCause = new Map<string, AlarmPlace>();
  for (const { act, confidence, residualMs } of landing.candidates) {
    const { episode, seq, chunk, callId, flow, at, process } = act;
    const key = `${episode} ${actKey(chunk, callId, process, flow)}`;
    const known = byCause.get(key);
    byCause.set(
      key,
      known === undefined
        ? { episode, seq, chunk, callId, flow, at, ...(process ? { process } : {}), confidence, residualMs }
        : { ...known, confidence: known.confidence + confidence },
    );
  }
  const places = [...byCause.values()].sort((a, b) => b.confidence - a.confidence);
  const best = places[0]?.confidence ?? 0;
  const status = best > MATCHED ? "matched" : best > landing.unexplained ? "ambiguous" : "unmatched";
  const { alarm, unexplained, skewMs, why } = landing;
  return {
    type: "outside.alarm",
    alarm,
    digest: alarmDigest(alarm),
    status,
    places,
    unexplained,
    skewMs,
    ...(status === "unmatched" && why !== undefined ? { why } : {}),
  };
}
