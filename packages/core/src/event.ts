import { z } from "zod";
import { Instance } from "./instance.ts";
import { ContextProfile } from "./profile.ts";
import { Response } from "./response.ts";
import { Telemetry, TelemetryProcess } from "./telemetry.ts";
import { ToolCall } from "./tool-call.ts";

/**
 * Anything recorded in an episode. The union below is the payload; the log adds sequence number, time and hashes. Fields are
 * only ever added: a reader of version 1 can read every later minor version.
 */

export const Purpose = z.enum(["train", "eval", "demo", "user"]);
export type Purpose = z.infer<typeof Purpose>;

export const Termination = z.enum([
  "submitted",
  "max-chunks",
  "max-context",
  "malformed",
  "stopped-by-guard",
  "environment-fault",
  "cancelled",
]);
export type Termination = z.infer<typeof Termination>;

export const Severity = z.enum(["low", "medium", "high", "critical"]);
export type Severity = z.infer<typeof Severity>;

/** Categories of the ROME report, §3.1.4. */
export const RiskCategory = z.enum(["safety-and-security", "controllability", "trustworthiness"]);
export type RiskCategory = z.infer<typeof RiskCategory>;

export const Alert = z.object({
  rule: z.string(),
  /** MITRE ATT&CK technique id, e.g. T1565.001. */
  technique: z.string(),
  category: RiskCategory,
  severity: Severity,
  /** The chunk that caused it. */
  chunk: z.number().int().nonnegative(),
  callId: z.string().optional(),
  /** `command`, `file`: the tool call and what it changed; `telemetry`: a collector's records; `outside`: an alarm that was imported. */
  source: z.enum(["command", "file", "telemetry", "outside"]),
  evidence: z.record(z.string(), z.unknown()),
  /**
   * `certain`: seen in the call itself or in the state right after it; `ancestry`: the process that did it descends from one that the
   * chunk's call started; `interval`: inferred from time alone.
   */
  attribution: z.enum(["certain", "ancestry", "interval"]),
  /** The chunk during which it happened, where a later one than the one that caused it. */
  during: z.number().int().nonnegative().optional(),
  /** When it happened, in milliseconds since the epoch; the log's line says when it was written. */
  at: z.number().optional(),
  process: TelemetryProcess.optional(),
  /** What was done about it. */
  response: Response.optional(),
});
export type Alert = z.infer<typeof Alert>;

export const TestResult = z.object({ name: z.string(), passed: z.boolean(), message: z.string().optional() });
export type TestResult = z.infer<typeof TestResult>;

export const Verdict = z.object({
  /** Terminal task reward in [0, 1]; null when the environment failed and nothing can be said of the agent. */
  reward: z.number().nullable(),
  tests: z.array(TestResult),
  environmentFault: z.string().optional(),
  durationMs: z.number().nonnegative(),
});
export type Verdict = z.infer<typeof Verdict>;

const chunk = z.number().int().nonnegative();

export const EpisodeBegin = z.object({
  type: z.literal("episode.begin"),
  episode: z.string(),
  purpose: Purpose,
  /** Run that asked for the episode, and the group (same instance, same version) it belongs to. */
  run: z.string().nullable(),
  group: z.string().nullable(),
  instance: Instance,
  instanceDigest: z.string(),
  /** Who acts: a policy version, or a scripted expert. */
  actor: z.discriminatedUnion("type", [
    z.object({ type: z.literal("policy"), model: z.string(), version: z.number().int().nonnegative() }),
    z.object({ type: z.literal("script"), name: z.string() }),
  ]),
  profile: ContextProfile,
  profileHash: z.string(),
  startedAt: z.string(),
  software: z.record(z.string(), z.string()),
});

/** One chunk as it was sampled. Token ids are exact; training reads nothing else. */
export const ModelCall = z.object({
  type: z.literal("model.call"),
  chunk,
  /** Tokens added to the context since the end of the previous chunk (observation, template). Never trained on. */
  contextTokens: z.array(z.number().int().nonnegative()),
  /** Tokens of this chunk, stop token included. */
  tokens: z.array(z.number().int().nonnegative()),
  /** Log-probability of each token under the policy that sampled it (temperature 1); empty for scripted actors. */
  logprobs: z.array(z.number()),
  source: z.enum(["policy", "expert"]),
  version: z.number().int().nonnegative().nullable(),
  stopReason: z.enum(["stop", "length"]),
  text: z.string(),
  toolCalls: z.array(ToolCall),
  /** Why the text is not a well-formed tool call, if it is not. */
  malformed: z.string().optional(),
  /**
   * The context was rewritten, so this chunk does not continue the tokens before it: `contextTokens` is the whole prompt, and
   * training starts a new sequence here.
   */
  forked: z.boolean().optional(),
});
export type ModelCall = z.infer<typeof ModelCall>;

export const ToolResult = z.object({
  type: z.literal("tool.result"),
  chunk,
  callId: z.string(),
  name: z.string(),
  /** What the model sees, after truncation. */
  content: z.string(),
  isError: z.boolean(),
  exitCode: z.number().int().nullable(),
  timedOut: z.boolean(),
  /** Bytes the tool produced, shown or not. */
  outputBytes: z.number().int().nonnegative(),
  durationMs: z.number().nonnegative(),
  /** What guard did to the call: kept it from running, or ended it while it ran. Left out where it ran to its own end. */
  guard: z.enum(["refused", "interrupted"]).optional(),
  /** The end of `content` that guard added and no tool produced, so that the call can be replayed without it. */
  note: z.string().optional(),
});
export type ToolResult = z.infer<typeof ToolResult>;

/** A command of the instance's own, before the agent's first chunk. */
export const InstallStep = z.object({
  type: z.literal("install"),
  /** Which of the instance's commands, from 0. */
  step: z.number().int().nonnegative(),
  command: z.string(),
  user: z.enum(["root", "agent"]),
  /** What it could reach, in words. */
  network: z.string(),
  /** Null where it was killed: by its time limit, or with its sandbox. */
  exitCode: z.number().int().nullable(),
  timedOut: z.boolean(),
  /** Head and tail, as much as the instance's limits keep. */
  stdout: z.string(),
  stderr: z.string(),
  /** All that it wrote, kept or not. */
  outputBytes: z.number().int().nonnegative(),
  durationMs: z.number().nonnegative(),
});
export type InstallStep = z.infer<typeof InstallStep>;

export const Event = z.discriminatedUnion("type", [
  EpisodeBegin,
  z.object({ type: z.literal("message"), role: z.enum(["system", "user"]), content: z.string() }),
  ModelCall,
  InstallStep,
  z.object({ type: z.literal("tool.call"), chunk, call: ToolCall }),
  ToolResult,
  z.object({
    type: z.literal("file.change"),
    chunk,
    callId: z.string().optional(),
    path: z.string(),
    change: z.enum(["created", "modified", "deleted", "read"]),
    before: z.string().nullable(),
    after: z.string().nullable(),
  }),
  z.object({ type: z.literal("alert"), chunk, alert: Alert }),
  /** What a collector saw, with its attribution. `chunk`: during which it happened; null where no chunk had begun, or none was any more. */
  z.object({
    type: z.literal("telemetry"),
    chunk: chunk.nullable(),
    /** Where it was not the agent's. */
    phase: z.enum(["install", "verifier"]).optional(),
    record: Telemetry,
  }),
  /** Guard's sums when the episode is wound up: nothing that was written before is changed by what followed it. */
  z.object({
    type: z.literal("guard.totals"),
    /** Of each alert over telemetry how many records said it, the first of which set it off. */
    alerts: z.array(
      z.object({
        rule: z.string(),
        /** `evidence.cause` of the alert; with `rule` it names the alert. */
        cause: z.string(),
        chunk,
        records: z.number().int().positive(),
        firstAt: z.number(),
        lastAt: z.number(),
      }),
    ),
    /** By kind: records that were seen and judged, but are not in the log. */
    suppressed: z.record(z.string(), z.number().int().positive()),
    /** Records that were not of this episode, or could not be placed in time. */
    refused: z.number().int().nonnegative(),
  }),
  /** What was done because of an alert, beyond recording it. */
  z.object({
    type: z.literal("response"),
    chunk,
    callId: z.string().optional(),
    rule: z.string(),
    response: Response,
    detail: z.string(),
    /** Of a quarantine: the evidence that is kept. */
    snapshot: z.string().optional(),
  }),
  /** A person was asked, and the tool call waits. */
  z.object({
    type: z.literal("approval.request"),
    id: z.string(),
    chunk,
    callId: z.string(),
    rule: z.string(),
    what: z.string(),
    timeoutMs: z.number().nonnegative(),
  }),
  z.object({
    type: z.literal("approval.answer"),
    id: z.string(),
    chunk,
    granted: z.boolean(),
    /** Who answered; `timeout` where nobody did. */
    by: z.string(),
    reason: z.string().optional(),
    waitedMs: z.number().nonnegative(),
  }),
  /** The environment, not the agent, went wrong. */
  z.object({ type: z.literal("fault"), chunk: chunk.nullable(), what: z.string(), detail: z.string() }),
  z.object({
    type: z.literal("episode.end"),
    termination: Termination,
    chunks: z.number().int().nonnegative(),
    detail: z.string().optional(),
  }),
  z.object({ type: z.literal("verdict"), verdict: Verdict }),
  /** A torn last line was found and cut off when the log was opened again. Nothing else is ever removed. */
  z.object({
    type: z.literal("log.repair"),
    droppedBytes: z.number().int().positive(),
    droppedSha256: z.string(),
  }),
  /** Last line of a finished log; its hash is the identity of the episode. */
  z.object({ type: z.literal("episode.seal"), events: z.number().int().positive() }),
]);
export type Event = z.infer<typeof Event>;
export type EventOf<T extends Event["type"]> = Extract<Event, { type: T }>;
