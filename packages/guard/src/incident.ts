import { RiskCategory, Severity, TelemetryProcess, ToolCall } from "@ale/core";
import { z } from "zod";

/**
 * One attempt at something forbidden, from the first packet or program to what came of it: what a person follows, and what evidence is
 * handed over of. Derived from an episode's log and the alarms from outside, never kept as truth of its own. Version 1 of the format; fields
 * are only ever added.
 */

const count = z.number().int().nonnegative();
const ms = z.number();

/** Names this incident for good: from the episode and the hash of its first line. */
export const IncidentId = z.string().regex(/^inc_[0-9a-f]{12}$/);

export const IncidentSignal = z.object({
  /** Of an alert: its rule. Of an alarm from outside: `outside`. */
  rule: z.string(),
  /** Of an alarm: what it said. */
  title: z.string().optional(),
  technique: z.string().nullable(),
  category: RiskCategory.nullable(),
  severity: Severity,
  source: z.enum(["command", "file", "telemetry", "outside"]),
  attribution: z.enum(["certain", "ancestry", "interval"]).nullable(),
  count,
});
export type IncidentSignal = z.infer<typeof IncidentSignal>;

/** What a list shows. */
export const IncidentHead = z.object({
  id: IncidentId,
  episode: z.string(),
  /** The chunk that caused it. */
  chunk: count,
  /** Later chunks during which it went on. */
  during: z.array(count),
  callIds: z.array(z.string()),
  severity: Severity,
  rule: z.string(),
  technique: z.string().nullable(),
  category: RiskCategory.nullable(),
  /** Every rule that told of it, the most telling first. */
  signals: z.array(IncidentSignal),
  /** What did it, on one line: a process's command line, or what the call says. */
  what: z.string().nullable(),
  /** Lines of the alerts. */
  alertLines: z.array(count),
  /** When the first alert was written: milliseconds since the epoch. Of an incident known from outside alone: when it happened. */
  at: ms,
});
export type IncidentHead = z.infer<typeof IncidentHead>;

export const IncidentProcess = TelemetryProcess.omit({ ancestry: true, lineage: true }).extend({
  /** 0: the outermost that is known, usually the agent's shell. */
  depth: count,
  /** It gave rise to an alert. */
  alerted: z.boolean(),
});
export type IncidentProcess = z.infer<typeof IncidentProcess>;

export const IncidentFlow = z.object({
  flow: z.string().nullable(),
  /** First record of it. */
  at: ms,
  pid: z.number().int().positive().optional(),
  protocol: z.string().optional(),
  host: z.string().optional(),
  ip: z.string().optional(),
  port: count.optional(),
  /** As a firewall beyond the gateway saw it. */
  upstream: z.string().optional(),
  /** Why it was refused. */
  refused: z.string().optional(),
  /** It was let through. Without either, only the process's side of it was seen. */
  passed: z.literal(true).optional(),
  /** What the first bytes look like, and the first bytes. */
  class: z.string().optional(),
  head: z.string().optional(),
  claimed: z.string().optional(),
  bytesUp: z.number().nonnegative().optional(),
  bytesDown: z.number().nonnegative().optional(),
  durationMs: z.number().nonnegative().optional(),
  /** Attempts that looked alike. */
  attempts: count,
});
export type IncidentFlow = z.infer<typeof IncidentFlow>;

const IncidentFile = z.object({
  path: z.string(),
  change: z.string(),
  before: z.string().nullable(),
  after: z.string().nullable(),
});

const IncidentAnswer = z.object({
  at: ms,
  response: z.string(),
  rule: z.string(),
  detail: z.string(),
  snapshot: z.string().optional(),
});

const IncidentApproval = z.object({
  at: ms,
  rule: z.string(),
  what: z.string(),
  /** Null: nobody has answered. */
  granted: z.boolean().nullable(),
  by: z.string().nullable(),
  reason: z.string().optional(),
  waitedMs: z.number().nullable(),
});

/** An alarm of somebody else's system that was matched to this. */
export const IncidentAlarm = z.object({
  /** Line of the alarms' own log. */
  seq: count,
  hash: z.string(),
  /** `file:line` of the import. */
  id: z.string(),
  source: z.string(),
  title: z.string(),
  severity: Severity,
  /** `ambiguous`: it could as well be a rival's, and is only shown. */
  status: z.enum(["matched", "ambiguous"]),
  /** On its own clock. */
  at: ms,
  /** Its clock minus ours, as estimated. */
  skewMs: ms,
  residualMs: ms,
  confidence: z.number(),
  /** Who else it could have been. */
  rivals: z.array(
    z.object({
      episode: z.string(),
      chunk: count.nullable(),
      callId: z.string().nullable(),
      confidence: z.number(),
    }),
  ),
  unexplained: z.number(),
});
export type IncidentAlarm = z.infer<typeof IncidentAlarm>;

export const Incident = IncidentHead.extend({
  run: z.string().nullable(),
  instance: z.string(),
  actor: z.string(),
  startedAt: z.string(),
  /** First packet, program or change of what was alerted. */
  firstAt: ms,
  /** From there until the first alert's line; null where only the outside told. */
  delayMs: ms.nullable(),
  call: ToolCall.nullable(),
  /** What the model wrote, which ends in the call, and what it had read just before. */
  wrote: z.string().nullable(),
  read: z.object({ from: z.string(), content: z.string() }).nullable(),
  /** What the call gave back. */
  result: z
    .object({
      content: z.string(),
      exitCode: z.number().nullable(),
      isError: z.boolean(),
      /** What guard did to the call. */
      guard: z.enum(["refused", "interrupted"]).optional(),
    })
    .nullable(),
  processes: z.array(IncidentProcess),
  flows: z.array(IncidentFlow),
  names: z.array(
    z.object({ name: z.string(), type: z.string().optional(), allowed: z.boolean().optional(), count }),
  ),
  syscalls: z.array(z.object({ name: z.string(), denied: z.boolean(), count })),
  files: z.array(IncidentFile),
  responses: z.array(IncidentAnswer),
  approvals: z.array(IncidentApproval),
  alarms: z.array(IncidentAlarm),
  evidence: z.array(z.object({ seq: count, rule: z.string(), evidence: z.record(z.string(), z.unknown()) })),
  /** Records that said it, kept in the log or only counted, and the time of the last; null where the episode was not wound up. */
  records: count.nullable(),
  lastAt: ms.nullable(),
  termination: z.string().nullable(),
  verdict: z
    .object({
      reward: z.number().nullable(),
      passed: count,
      tests: count,
      environmentFault: z.string().optional(),
    })
    .nullable(),
  /** Every line of the log that this rests on, in order. */
  lines: z.array(count),
});
export type Incident = z.infer<typeof Incident>;
