import { z } from "zod";
import { BUDGET_ITEMS } from "./network-policy.ts";

/**
 * One thing that a collector saw happen in or around a sandbox. All collectors write this one record, on one clock; guard's rules read
 * it, and attribution fills in who did it. Version 1 of the format; fields are only ever added.
 */

export const TelemetryKind = z.enum([
  /** A program was started. */
  "process.exec",
  /** A connection was asked for, from the process's side. */
  "net.connect",
  /** Refused by policy; `net.rule` says which. */
  "net.deny",
  /** What somebody who was refused began to say, as the capture sink read it. */
  "net.capture",
  /** An allowed connection has ended; bytes are counted. */
  "net.flow",
  "dns.query",
  /** A system call that the filter refused. */
  "syscall.denied",
  /** One that was made and deserves a look: ptrace, mount, bpf, memfd_create … */
  "syscall",
  "file.change",
  "file.read",
  /** Counters of a sandbox over an interval. */
  "resource.sample",
  /** A limit was hit: memory, processes, disk, output. */
  "resource.limit",
  /** The agent called a tool. */
  "tool.call",
  /** The network policy, or another setting of the sandbox, was changed. */
  "policy.change",
  /**
   * Records were lost on their way from a server: `suppressed` says how many, and is left out where nobody knows; `tool.command` says why. What
   * was done meanwhile may be missing.
   */
  "telemetry.gap",
]);
export type TelemetryKind = z.infer<typeof TelemetryKind>;

export const TelemetrySource = z.enum([
  "nflog",
  "sink",
  "dns",
  "proxy",
  "tracefs",
  /** The kernel's audit, and its log where that cannot be read: refused calls. */
  "audit",
  "kernel-log",
  "cgroup",
  "gpu",
  "files",
  "tool",
  "outside",
]);
export type TelemetrySource = z.infer<typeof TelemetrySource>;

const count = z.number().nonnegative();

export const TelemetryProcess = z.object({
  /** On the host. */
  pid: z.number().int().positive(),
  uid: z.number().int().nonnegative().optional(),
  /** Path of the program inside the sandbox. */
  exe: z.string().optional(),
  /** What it was started with: path and arguments with a blank between them. */
  command: z.string().optional(),
  /** What `command` lacks: `unknown`, no more than the path is known; `cut`, there was more than was kept. */
  arguments: z.enum(["unknown", "cut"]).optional(),
  /** Command lines of its ancestors inside the sandbox, the nearest first; PID 1 is left out. */
  ancestry: z.array(z.string()).optional(),
  /** When it was started (its fork), in milliseconds since the epoch; as exact as `lineage`. */
  startedAt: z.number().optional(),
  /** The same ancestors, for attribution: the one that a tool call started says which call caused what its descendants do. */
  lineage: z.array(z.object({ pid: z.number().int().positive(), startedAt: z.number() })).optional(),
  /** Which of these, or itself, is a shell that the driver keeps for a session, by its pid: it runs commands of many calls. */
  shell: z.number().int().positive().optional(),
});
export type TelemetryProcess = z.infer<typeof TelemetryProcess>;

const port = z.number().int().min(0).max(65_535);
const Upstream = z.object({
  ip: z.string(),
  port,
  sourceIp: z.string().optional(),
  sourcePort: port.optional(),
});

/** What collectors count of a sandbox. A log may have others, of another version. */
export const RESOURCE_FIGURES = [
  "seconds",
  "cpuShare",
  "newProcessesPerSecond",
  "ioBytesPerSecond",
  "memoryChange",
  "memoryBytes",
  "pids",
  "diskBytes",
  "outputBytes",
  "oomKills",
  "pidsRefused",
  "gpuShare",
  "gpus",
] as const;
export type ResourceFigures = { readonly [Name in (typeof RESOURCE_FIGURES)[number]]?: number | undefined };

export const Telemetry = z.object({
  /** Milliseconds since the epoch, with fraction, on the episode log's clock. */
  at: z.number(),
  kind: TelemetryKind,
  source: TelemetrySource,
  sandbox: z.string().nullable(),
  episode: z.string().nullable().optional(),
  /** The chunk during which it happened. */
  chunk: z.number().int().nonnegative().optional(),
  /** The chunk whose tool call started the process, where that is an earlier one. */
  originChunk: z.number().int().nonnegative().optional(),
  callId: z.string().optional(),
  process: TelemetryProcess.optional(),
  net: z
    .object({
      /** The same for all records of one connection. */
      flow: z.string().optional(),
      protocol: z.enum(["tcp", "udp", "icmp", "other"]).optional(),
      host: z.string().optional(),
      ip: z.string().optional(),
      port: z.number().int().min(0).max(65_535).optional(),
      sourcePort: z.number().int().min(0).max(65_535).optional(),
      /** Of what left through the gateway: the connection as a firewall beyond it sees it. */
      upstream: Upstream.optional(),
      /** Of what was refused: `private`, `metadata`, `sandbox`, `fronting`, `protocol`, `budget`, `port`, `name`, `scan`, `default` … */
      rule: z.string().optional(),
      /** Which budget was used up, and whose: the whole sandbox's, or that for this host. */
      budget: z
        .object({
          of: z.enum(["sandbox", "host"]),
          what: z.enum(BUDGET_ITEMS),
          limit: count,
          used: count,
        })
        .optional(),
      /** What the first bytes look like: ssh, tls, http, stratum, socks, shell, silent, unknown. */
      class: z.string().optional(),
      /** The first bytes as text, at most 200 characters, control characters replaced. */
      head: z.string().optional(),
      /** Name that the client claims (TLS SNI, HTTP Host). */
      claimed: z.string().optional(),
      alpn: z.string().optional(),
      bytesUp: count.optional(),
      bytesDown: count.optional(),
      durationMs: count.optional(),
    })
    .optional(),
  dns: z
    .object({
      name: z.string(),
      type: z.string().optional(),
      /** The registrable part of the name, as far as that can be told without a list. */
      base: z.string().optional(),
      allowed: z.boolean().optional(),
      labelBytes: count.optional(),
      /** Bits per character of the part before `base`. */
      entropy: count.optional(),
    })
    .optional(),
  syscall: z.object({ name: z.string(), arguments: z.string().optional() }).optional(),
  file: z
    .object({ path: z.string(), change: z.string().optional(), sha256: z.string().nullable().optional() })
    .optional(),
  resource: z.record(z.string(), z.number()).optional(),
  tool: z
    .object({ name: z.string(), command: z.string().optional(), refused: z.boolean().optional() })
    .optional(),
  /** Records like this one that were counted but not kept since the last one that was. */
  suppressed: z.number().int().nonnegative().optional(),
});
export type Telemetry = z.infer<typeof Telemetry>;
