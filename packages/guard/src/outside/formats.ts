import type { Severity } from "@ale/core";
import { z } from "zod";
import {
  addressOf,
  NOTHING,
  type OutsideAlarm,
  pidOf,
  portOf,
  protocolOf,
  type ReadRecord,
  textOf,
  timeOf,
} from "./alarm.ts";

/** Readers of single records, one a format; of flow logs: flow-logs.ts. Unknown fields are ignored here and kept in the alarm's `raw`. */

const Names = z.array(z.looseObject({ rrname: z.string().optional() }));
const Ends = z.looseObject({
  src_ip: z.string().optional(),
  src_port: z.number().optional(),
  dest_ip: z.string().optional(),
  dest_port: z.number().optional(),
});

const Eve = Ends.extend({
  timestamp: z.string(),
  event_type: z.string(),
  /** `sensor-name` of its configuration. */
  host: z.string().optional(),
  sensor_name: z.string().optional(),
  direction: z.string().optional(),
  alert: z.looseObject({ signature: z.string().optional(), severity: z.number().optional() }).optional(),
  drop: z.looseObject({ reason: z.string().optional() }).optional(),
  dns: z
    .looseObject({ rrname: z.string().optional(), query: Names.optional(), queries: Names.optional() })
    .optional(),
  tls: z.looseObject({ sni: z.string().optional() }).optional(),
  quic: z.looseObject({ sni: z.string().optional() }).optional(),
  http: z.looseObject({ hostname: z.string().optional() }).optional(),
  flow: Ends.optional(),
});

/** Suricata counts severity downwards: 1 is the worst. */
const EVE_SEVERITY: readonly Severity[] = ["critical", "high", "medium", "low"];

/** Suricata's EVE JSON. Only `alert` and `drop` records are alarms. */
export function readEve(record: unknown): ReadRecord {
  const parsed = Eve.safeParse(record);
  if (!parsed.success) return { fault: `not an EVE record: ${lacking(record, ["timestamp", "event_type"])}` };
  const { timestamp, event_type: type, alert, drop, dns, tls, quic, http, ...rest } = parsed.data;
  if (type !== "alert" && type !== "drop") return { skip: `${type} record` };
  const at = timeOf(timestamp);
  if (at === undefined) return { fault: `timestamp ${JSON.stringify(timestamp)} is no time` };
  const dropped = drop?.reason === undefined ? "" : ` (${drop.reason})`;
  return {
    ...NOTHING,
    at,
    source: "suricata",
    sensor: rest.host ?? rest.sensor_name ?? null,
    title: alert?.signature ?? `${type} by Suricata${dropped}`,
    severity: EVE_SEVERITY[(alert?.severity ?? 3) - 1] ?? "low",
    protocol: protocolOf(rest.proto),
    ...endsOf(rest),
    host:
      tls?.sni ??
      quic?.sni ??
      http?.hostname ??
      dns?.rrname ??
      (dns?.query ?? dns?.queries)?.find(({ rrname }) => rrname !== undefined)?.rrname ??
      null,
  };
}

/** Who began it: an alarm about an answer has the packet's ends, which are the other way round. */
function endsOf({
  flow,
  direction,
  ...packet
}: z.infer<typeof Ends> & { flow?: z.infer<typeof Ends> | undefined; direction?: string | undefined }) {
  const ends = flow?.dest_ip === undefined ? packet : flow;
  const answers = ends === packet && direction === "to_client";
  const from = { fromIp: addressOf(ends.src_ip), fromPort: portOf(ends.src_port) };
  const to = { toIp: addressOf(ends.dest_ip), toPort: portOf(ends.dest_port) };
  return answers
    ? { fromIp: to.toIp, fromPort: to.toPort, toIp: from.fromIp, toPort: from.fromPort }
    : { ...from, ...to };
}

function lacking(record: unknown, names: readonly string[]): string {
  const missing = names.filter(
    (name) => typeof record !== "object" || record === null || !Object.hasOwn(record, name),
  );
  return missing.length === 0 ? "its fields have other types" : `${missing.join(" and ")} missing`;
}

const Falco = z.looseObject({
  time: z.union([z.string(), z.number()]).optional(),
  rule: z.string(),
  priority: z.string(),
  hostname: z.string().optional(),
  output_fields: z.record(z.string(), z.unknown()).nullable().default({}),
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

/** Falco's JSON output (`json_output: true`). */
export function readFalco(record: unknown): ReadRecord {
  const parsed = Falco.safeParse(record);
  if (!parsed.success) return { fault: `not a Falco record: ${lacking(record, ["rule", "priority"])}` };
  const { time, rule, priority, hostname } = parsed.data;
  const fields = parsed.data.output_fields ?? {};
  const times = [fields["evt.time"], fields["evt.rawtime"], fields["evt.time.iso8601"], time].map(timeOf);
  const at = times.find((one) => one !== undefined);
  if (at === undefined) return { fault: `time ${JSON.stringify(time ?? null)} is no time` };
  const fd = textOf(fields["fd.name"]);
  const named = fd === null ? null : /^\[?([\da-f.:]+?)\]?:(\d+)->\[?([\da-f.:]+?)\]?:(\d+)$/i.exec(fd);
  const isFile = fields["fd.type"] === "file" || (named === null && fd?.startsWith("/") === true);
  const containers = ["container.id", "container.name", "k8s.pod.name"].flatMap((name) => {
    const text = textOf(fields[name]);
    // What runs in none is said to be in the container "host".
    return text === null || text === "host" ? [] : [text];
  });
  return {
    ...NOTHING,
    at,
    source: "falco",
    sensor: hostname ?? null,
    title: rule,
    severity: FALCO_SEVERITY[priority.toLowerCase()] ?? "medium",
    protocol: protocolOf(fields["fd.l4proto"]),
    fromIp: addressOf(fields["fd.cip"]) ?? addressOf(named?.[1]),
    fromPort: portOf(fields["fd.cport"]) ?? portOf(named?.[2]),
    toIp: addressOf(fields["fd.sip"]) ?? addressOf(fields["fd.rip"]) ?? addressOf(named?.[3]),
    toPort: portOf(fields["fd.sport"]) ?? portOf(fields["fd.rport"]) ?? portOf(named?.[4]),
    host: textOf(fields["fd.sip.name"]),
    pid: pidOf(fields["proc.pid"]),
    program: textOf(fields["proc.exepath"]) ?? textOf(fields["proc.name"]),
    command: textOf(fields["proc.cmdline"]),
    path: isFile ? fd : null,
    containers: [...new Set(containers)],
  };
}

/** Where a generic record keeps what: dotted paths. `at` and `title` are required. */
export const FieldMap = z.strictObject({
  at: z.string(),
  title: z.string(),
  severity: z.string().optional(),
  /** Their word for each severity, e.g. `{ "5": "critical" }`. */
  severities: z.record(z.string(), z.enum(["low", "medium", "high", "critical"])).optional(),
  sensor: z.string().optional(),
  protocol: z.string().optional(),
  fromIp: z.string().optional(),
  fromPort: z.string().optional(),
  toIp: z.string().optional(),
  toPort: z.string().optional(),
  host: z.string().optional(),
  pid: z.string().optional(),
  program: z.string().optional(),
  command: z.string().optional(),
  path: z.string().optional(),
  container: z.string().optional(),
});
export type FieldMap = z.infer<typeof FieldMap>;

/** Any JSON, or CSV with a header, by a map of its fields. */
export function readGeneric(record: unknown, map: FieldMap): ReadRecord {
  const at = timeOf(pick(record, map.at));
  const title = pick(record, map.title);
  if (at === undefined) return { fault: `no time at "${map.at}"` };
  if (title === undefined || title === null) return { fault: `nothing at "${map.title}"` };
  const of = (path: string | undefined): unknown => (path === undefined ? undefined : pick(record, path));
  const theirs = String(of(map.severity) ?? "");
  const own = theirs.toLowerCase();
  const container = textOf(of(map.container));
  return {
    ...NOTHING,
    at,
    source: "generic",
    sensor: textOf(of(map.sensor)),
    title: String(title),
    severity: map.severities?.[theirs] ?? (isSeverity(own) ? own : "medium"),
    protocol: protocolOf(of(map.protocol)),
    fromIp: addressOf(of(map.fromIp)),
    fromPort: portOf(of(map.fromPort)),
    toIp: addressOf(of(map.toIp)),
    toPort: portOf(of(map.toPort)),
    host: textOf(of(map.host)),
    pid: pidOf(of(map.pid)),
    program: textOf(of(map.program)),
    command: textOf(of(map.command)),
    path: textOf(of(map.path)),
    containers: container === null ? [] : [container],
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
