import { Limits, NetworkChange, NetworkPolicy, SandboxFile } from "@ale/core";
import { z } from "zod";
import { LEAST_DISK_BYTES, LEAST_MEMORY_BYTES, MOST_CPUS, MOST_PIDS, SANDBOX_ID } from "./bounds.ts";
import { parseByteSize } from "./byte-size.ts";

/** What goes over the wire of the native API: one source for validation, the OpenAPI document and the client's types. */

export const SandboxId = z
  .string()
  .regex(
    SANDBOX_ID,
    "not a sandbox's id: 1 to 63 lower-case letters, digits and hyphens, the first one no hyphen",
  );
export const SandboxParams = z.object({ sandboxId: SandboxId });
export const TelemetryQuery = z.object({
  after: z
    .string()
    .regex(/^[0-9a-f]{1,32}-\d{1,15}$/)
    .optional()
    .describe(
      "The cursor of the last record that the reader has: `id` of an event, or `cursor` of `listening`.",
    ),
});
export const DrainBody = z.strictObject({
  token: z.string().min(1).max(64).describe("Of the caller's choosing: by it the event is known."),
});

const TimeMs = z.number().int().min(0);
/** Milliseconds in a query string. */
const QueryMs = z.coerce.number().int().min(0);
export const Flag = z
  .enum(["true", "false"])
  .default("false")
  .transform((text) => text === "true");

export const Path = z
  .string()
  .startsWith("/", "not an absolute path")
  .max(4_096)
  .refine((path) => !path.includes("\0"), "holds a NUL character");

/** A number of bytes, or a text such as "512m", "8g", "64KiB" (all binary: 1k is 1,024). */
const byteSize = (least: number) =>
  z.union([z.number().int().positive(), z.string().max(32)]).transform((value, context) => {
    const bytes = typeof value === "number" ? value : parseByteSize(value);
    if (bytes !== undefined && bytes >= least) return bytes;
    const message =
      bytes === undefined ? 'not a size: write bytes, or "512m", "8g", "64KiB"' : `less than ${least} bytes`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  });

const limits = {
  cpus: z.number().positive().max(MOST_CPUS, `more than ${MOST_CPUS}`),
  memoryBytes: byteSize(LEAST_MEMORY_BYTES),
  pids: z.number().int().positive().max(MOST_PIDS, `more than ${MOST_PIDS}`),
  diskBytes: byteSize(LEAST_DISK_BYTES),
  execTimeoutMs: z.number().int().positive(),
  lifetimeMs: z.number().int().positive(),
  outputBytes: z
    .number()
    .int()
    .positive()
    .max(64 * 2 ** 20),
};

/** Unlike those of a training instance, limits of a served sandbox default to what a person working in it needs. */
export const LimitsRequest = z
  .strictObject({
    cpus: limits.cpus.default(1),
    memoryBytes: limits.memoryBytes.default(512 * 2 ** 20),
    pids: limits.pids.default(256),
    diskBytes: limits.diskBytes.default(2 ** 30),
    execTimeoutMs: limits.execTimeoutMs.default(600_000),
    lifetimeMs: limits.lifetimeMs.default(86_400_000),
    outputBytes: limits.outputBytes.default(2 ** 20),
  })
  .meta({ id: "LimitsRequest" });

export const LimitsChange = z.strictObject(limits).partial().meta({ id: "LimitsChange" });

const Labels = z.record(z.string().min(1).max(128), z.string().max(1_024));
export const Environment = z.record(
  z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "not a variable's name"),
  z.string().max(131_072),
);
const User = z.string().min(1).max(128).describe('Name or "uid[:gid]" as the sandbox\'s /etc/passwd has it.');

export const SandboxCreate = z
  .strictObject({
    id: SandboxId.optional().describe("Default: a fresh one."),
    image: z.string().min(1).max(512),
    files: z.array(SandboxFile).max(10_000).default([]).describe("Written before any process starts."),
    limits: LimitsRequest.prefault({}),
    network: NetworkPolicy.default({ mode: "none" }),
    workdir: Path.optional(),
    user: User.optional(),
    env: Environment.optional(),
    labels: Labels.optional(),
    idleMs: z.number().int().positive().optional().describe("Ends when nothing was asked of it for so long."),
    deleteAfterStopMs: TimeMs.optional().describe(
      "Deleted so long after it stopped; 0: at once. Default: never.",
    ),
    waitMs: TimeMs.max(60_000).default(0).describe("Answer when it runs or failed, at most so much later."),
  })
  .meta({ id: "SandboxCreate" });
export type SandboxCreate = z.input<typeof SandboxCreate>;

export const NetworkBody = z
  .strictObject({
    network: NetworkChange.describe("Budgets that it does not name stay as they are."),
    endOpen: z.boolean().default(false).describe("End connections that are open, also those still allowed."),
    resetBudgets: z.boolean().default(false).describe("Forget what was used; the limits stay."),
  })
  .meta({ id: "NetworkChange" });

const Used = z.object({
  bytesUp: z.number(),
  bytesDown: z.number(),
  connections: z.number(),
  requests: z.number(),
});
export const NetworkView = z
  .object({
    network: NetworkPolicy,
    used: z
      .object({ sandbox: Used, hosts: z.record(z.string(), Used) })
      .nullable()
      .describe("Since it was created or what was used was forgotten. null: it does not run."),
  })
  .meta({ id: "Network" });
export type NetworkView = z.infer<typeof NetworkView>;

const State = z.enum(["pending", "running", "stopped", "deleted", "failed"]);
const Phase = z.object({
  status: z.enum(["waiting", "running", "success", "failed"]),
  message: z.string(),
  startedAtMs: TimeMs.nullable(),
  completedAtMs: TimeMs.nullable(),
});

export const SandboxView = z
  .object({
    id: z.string(),
    tenant: z.string(),
    state: State,
    image: z.string(),
    labels: z.record(z.string(), z.string()),
    limits: Limits,
    network: NetworkPolicy,
    workdir: z.string().nullable(),
    user: z.string().nullable(),
    envNames: z.array(z.string()).describe("Values are never shown: they may be secrets."),
    idleMs: z.number().nullable(),
    deleteAfterStopMs: z.number().nullable(),
    createdAtMs: z.number(),
    startedAtMs: z.number().nullable(),
    endedAtMs: z.number().nullable(),
    endReason: z.string().nullable(),
    snapshot: z.string().nullable().describe("The snapshot it was forked from."),
    phases: z.object({ image: Phase, start: Phase }),
    failure: z.object({ code: z.string(), message: z.string(), next: z.string().nullable() }).nullable(),
    history: z.array(z.object({ from: State.nullable(), to: State, event: z.string(), atMs: z.number() })),
  })
  .meta({ id: "Sandbox" });
export type SandboxView = z.infer<typeof SandboxView>;

export const SandboxList = z.object({ sandboxes: z.array(SandboxView) });

export const ListQuery = z.strictObject({
  state: z
    .union([State, z.array(State)])
    .optional()
    .describe("May be repeated. Default: all that are not deleted."),
  label: z
    .union([z.string(), z.array(z.string())])
    .optional()
    .describe("`name=value`, may be repeated: all must be there."),
  allTenants: Flag.describe("Needs the scope admin."),
});

export const GetQuery = z.strictObject({
  waitFor: z
    .union([State, z.array(State)])
    .optional()
    .describe("Answer when it is in one of these states…"),
  timeoutMs: QueryMs.max(60_000).default(30_000).describe("…or so much later, as it then is."),
});

const Argv = z.array(z.string()).min(1).max(10_000);
const ExecBase = {
  argv: Argv,
  user: User.optional(),
  cwd: Path.optional(),
  env: Environment.optional(),
  timeoutMs: z.number().int().positive().optional().describe("Default: `limits.execTimeoutMs`."),
};

export const ExecBody = z
  .strictObject({
    ...ExecBase,
    stdin: z.string().optional(),
    stdinBase64: z.base64().optional().describe("Bytes that are no text."),
  })
  .refine(({ stdin, stdinBase64 }) => stdin === undefined || stdinBase64 === undefined, {
    message: "give stdin or stdinBase64, not both",
  })
  .meta({ id: "ExecRequest" });
export type ExecBody = z.input<typeof ExecBody>;

export const ExecView = z
  .object({
    exitCode: z.number().int().nullable(),
    stdout: z.string(),
    stderr: z.string(),
    outputBytes: z.number(),
    truncated: z.boolean(),
    timedOut: z.boolean(),
    durationMs: z.number(),
  })
  .meta({ id: "ExecResult" });

export const ExecEventsBody = z
  .strictObject({
    ...ExecBase,
    base64: z.boolean().default(false).describe("Output as base64, not as text."),
  })
  .meta({ id: "ExecEventsRequest" });

const Size = z.object({ cols: z.number().int().min(1).max(1_000), rows: z.number().int().min(1).max(1_000) });
const SIGNALS = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGKILL",
  "SIGUSR1",
  "SIGUSR2",
  "SIGTERM",
  "SIGSTOP",
  "SIGCONT",
] as const;

/** Text frames from the client of a stream; binary frames are stdin. The first one starts the program. */
export const ClientFrame = z
  .discriminatedUnion("type", [
    z.strictObject({
      type: z.literal("start"),
      ...ExecBase,
      tty: Size.optional(),
      stdin: z.boolean().optional(),
    }),
    z.strictObject({ type: z.literal("stdin-close") }),
    z.strictObject({ type: z.literal("signal"), signal: z.enum(SIGNALS) }),
    z.strictObject({ type: z.literal("resize"), ...Size.shape }),
  ])
  .meta({ id: "StreamClientFrame" });
export type ClientFrame = z.infer<typeof ClientFrame>;

export const TerminalQuery = z.strictObject({
  cols: z.coerce.number().int().min(1).max(1_000).default(80),
  rows: z.coerce.number().int().min(1).max(1_000).default(24),
  user: User.optional(),
  cwd: Path.optional(),
});

export const SessionName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, "1 to 64 letters, digits, dots, hyphens, underscores");
export const SessionParams = z.object({ sandboxId: SandboxId, session: SessionName });
export const SessionOpen = z.strictObject({
  name: SessionName.optional(),
  user: User.optional(),
  cwd: Path.optional(),
  env: Environment.optional(),
});
export const SessionView = z.object({ name: z.string() }).meta({ id: "Session" });
export const SessionList = z.object({ sessions: z.array(SessionView) });
export const SessionRun = z.strictObject({
  command: z.string().max(2 ** 20),
  timeoutMs: z.number().int().positive().optional(),
  base64: z.boolean().default(false).describe("Of events: output as base64, not as text."),
});
export const SessionResultView = z
  .object({
    exitCode: z.number().int().nullable(),
    output: z.string(),
    outputBytes: z.number(),
    truncated: z.boolean(),
    timedOut: z.boolean(),
    interrupted: z.boolean(),
    shellRestarted: z.boolean(),
    durationMs: z.number(),
  })
  .meta({ id: "SessionResult" });

const nullableNumber = z.number().nullable();
export const StatsView = z
  .object({
    cpuMs: nullableNumber,
    throttledPeriods: nullableNumber,
    memoryBytes: nullableNumber,
    memoryPeakBytes: nullableNumber,
    oomKills: nullableNumber,
    pids: nullableNumber,
    pidsRefused: nullableNumber,
    diskBytes: nullableNumber,
    diskInodes: nullableNumber,
    outputBytes: z.number(),
    uptimeMs: z.number(),
    idleMs: z.number(),
  })
  .meta({ id: "SandboxStats" });

export const PortParams = z.object({
  sandboxId: SandboxId,
  port: z.coerce.number().int().min(1).max(65_535),
});
export const ProxyParams = PortParams.extend({ "*": z.string() });
