import type { Severity } from "@ale/core";
import { z } from "zod";
import { type OutsideAlarm, portOf, protocolOf, type ReadRecord, textOf, timeOf } from "./alarm.ts";

/** Readers of single records, one a format. Unknown fields are ignored here and kept in the alarm's `raw`. */

const NOTHING = {
  protocol: null,
  fromIp: null,
  fromPort: null,
  toIp: null,
  toPort: null,
  host: null,
  pid: null,
  command: null,
} as const;

const Eve = z.looseObject({
  timestamp: z.string(),
  event_type: z.string(),
  alert: z.looseObject({ signature: z.string().optional(), severity: z.number().optional() }).optional(),
  dns: z.looseObject({ rrname: z.string().optional() }).optional(),
  tls: z.looseObject({ sni: z.string().optional() }).optional(),
  http: z.looseObject({ hostname: z.string().optional() }).optional(),
});

/** Suricata counts severity downwards: 1 is the worst. */
const EVE_SEVERITY: readonly Severity[] = ["critical", "high", "medium", "low"];

/** Suricata's EVE JSON. Only `alert` and `drop` records are alarms. */
export function readEve(record: unknown): ReadRecord {
  const parsed = Eve.safeParse(record);
  if (!parsed.success) return { fault: "not an EVE record: timestamp or event_type is missing" };
  const { timestamp, event_type: type, alert, ...rest } = parsed.data;
  if (type !== "alert" && type !== "drop") return null;
  const at = timeOf(timestamp);
  if (at === undefined) return { fault: `timestamp ${JSON.stringify(timestamp)} is no time` };
  return {
    ...NOTHING,
    at,
    source: "suricata",
    title: alert?.signature ?? `${type} by Suricata`,
    severity: EVE_SEVERITY[(alert?.severity ?? 3) - 1] ?? "low",
    protocol: protocolOf(rest.proto),
    fromIp: textOf(rest.src_ip),
    fromPort: portOf(rest.src_port),
    toIp: textOf(rest.dest_ip),
    toPort: portOf(rest.dest_port),
    host: rest.tls?.sni ?? rest.http?.hostname ?? rest.dns?.rrname ?? null,
  };
}

const Falco = z.looseObject({
  time: z.union([z.string(), z.number()]),
  rule: z.string(),
  priority: z.string(),
  output_fields: z.record(z.string(), z.unknown()).default({}),
});

const FALCO_SEVERITY: Readonly<Record<string, Severity>> = {
  emergency: "critical",
  alert: "critical",
  critical: "critical",
  error: "high",
  warning: "medium",
  notice: "low",
  informational: "low",
  info: "low",
  debug: "low",
};

/** Falco's JSON output. */
export function readFalco(record: unknown): ReadRecord {
  const parsed = Falco.safeParse(record);
  if (!parsed.success) return { fault: "not a Falco record: time, rule or priority is missing" };
  const { time, rule, priority, output_fields: fields } = parsed.data;
  const at = timeOf(fields["evt.time"]) ?? timeOf(time);
  if (at === undefined) return { fault: `time ${JSON.stringify(time)} is no time` };
  const pid = Number(fields["proc.pid"]);
  return {
    ...NOTHING,
    at,
    source: "falco",
    title: rule,
    severity: FALCO_SEVERITY[priority.toLowerCase()] ?? "medium",
    protocol: protocolOf(fields["fd.l4proto"]),
    fromIp: textOf(fields["fd.cip"]),
    fromPort: portOf(fields["fd.cport"]),
    toIp: textOf(fields["fd.sip"]) ?? textOf(fields["fd.rip"]),
    toPort: portOf(fields["fd.sport"]) ?? portOf(fields["fd.rport"]),
    host: textOf(fields["fd.sip.name"]),
    pid: Number.isInteger(pid) && pid > 0 ? pid : null,
    command: textOf(fields["proc.cmdline"]),
  };
}

/** A flow record of a cloud's virtual network (version 2 field names, as CSV with a header, space-separated text, or JSON). */
export function readFlow(record: unknown): ReadRecord {
  if (typeof record !== "object" || record === null) return { fault: "not a flow record" };
  const field = (...names: string[]): unknown => {
    for (const name of names) {
      const value = (record as Record<string, unknown>)[name];
      if (value !== undefined) return value;
    }
    return undefined;
  };
  const at = timeOf(field("start", "start_time", "timestamp", "time", "end"));
  const action = String(field("action", "disposition", "verdict") ?? "").toUpperCase();
  if (at === undefined) return { fault: "a flow record without a start time" };
  if (action === "") return { fault: "a flow record without an action" };
  if (["ACCEPT", "ALLOW", "ALLOWED", "PASS", "NODATA", "SKIPDATA"].includes(action)) return null;
  const toPort = portOf(field("dstport", "dst_port", "dest_port", "destination_port"));
  return {
    ...NOTHING,
    at,
    source: "flow-log",
    title: `${action.toLowerCase()} by the network${toPort === null ? "" : `, port ${toPort}`}`,
    severity: "medium",
    protocol: protocolOf(field("protocol", "proto")),
    fromIp: textOf(field("srcaddr", "src_ip", "source_ip", "src")),
    fromPort: portOf(field("srcport", "src_port", "source_port")),
    toIp: textOf(field("dstaddr", "dst_ip", "dest_ip", "destination_ip", "dst")),
    toPort,
  };
}

/** Where a generic record keeps what: dotted paths. `at` and `title` are required. */
export const FieldMap = z.strictObject({
  at: z.string(),
  title: z.string(),
  severity: z.string().optional(),
  /** Their word for each severity, e.g. `{ "5": "critical" }`. */
  severities: z.record(z.string(), z.enum(["low", "medium", "high", "critical"])).optional(),
  protocol: z.string().optional(),
  fromIp: z.string().optional(),
  fromPort: z.string().optional(),
  toIp: z.string().optional(),
  toPort: z.string().optional(),
  host: z.string().optional(),
  pid: z.string().optional(),
  command: z.string().optional(),
});
export type FieldMap = z.infer<typeof FieldMap>;

/** Any JSON, by a map of its fields. */
export function readGeneric(record: unknown, map: FieldMap): ReadRecord {
  const at = timeOf(pick(record, map.at));
  const title = pick(record, map.title);
  if (at === undefined) return { fault: `no time at "${map.at}"` };
  if (title === undefined || title === null) return { fault: `nothing at "${map.title}"` };
  const of = (path: string | undefined): unknown => (path === undefined ? undefined : pick(record, path));
  const theirs = String(of(map.severity) ?? "");
  const own = theirs.toLowerCase();
  const pid = Number(of(map.pid));
  return {
    at,
    source: "generic",
    title: String(title),
    severity: map.severities?.[theirs] ?? (isSeverity(own) ? own : "medium"),
    protocol: protocolOf(of(map.protocol)),
    fromIp: textOf(of(map.fromIp)),
    fromPort: portOf(of(map.fromPort)),
    toIp: textOf(of(map.toIp)),
    toPort: portOf(of(map.toPort)),
    host: textOf(of(map.host)),
    pid: Number.isInteger(pid) && pid > 0 ? pid : null,
    command: textOf(of(map.command)),
  };
}

const isSeverity = (text: string): text is OutsideAlarm["severity"] =>
  ["low", "medium", "high", "critical"].includes(text);

/** A key that has dots in it is found before the path that it could be. */
function pick(value: unknown, path: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  if (Object.hasOwn(value, path)) return (value as Record<string, unknown>)[path];
  const dot = path.indexOf(".");
  if (dot < 0) return undefined;
  return pick((value as Record<string, unknown>)[path.slice(0, dot)], path.slice(dot + 1));
}
