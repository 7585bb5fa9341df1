import { z } from "zod";
import { addressOf, NOTHING, portOf, protocolOf, type ReadRecord, textOf, timeOf } from "./alarm.ts";

/**
 * Flow and firewall logs of clouds, in the shapes that their vendors write: AWS (versions 2 to 5, also as events of CloudWatch), Google Cloud
 * (entries of Cloud Logging), Azure (flow tuples of network security groups and of virtual networks), and tables with like names. Refused
 * flows are alarms.
 */

/** The default order of AWS, where nothing names the columns. */
export const AWS_FIELDS = (
  "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action " +
  "log-status"
).split(" ");

const ALLOWED: ReadonlySet<string> = new Set(["ACCEPT", "ALLOW", "ALLOWED", "PASS", "A"]);
const EMPTY: ReadonlySet<string> = new Set(["NODATA", "SKIPDATA"]);

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Whether a record has the shape of one of them. */
export const isFlowLog = (record: unknown): boolean =>
  isFields(record) &&
  (Gcp.safeParse(record).success ||
    AzureGroup.safeParse(record).success ||
    AzureNetwork.safeParse(record).success ||
    rowOfMessage(record) !== undefined ||
    Object.keys(record).some((name) => /^(?:src_?addr|src_ip|action|disposition|verdict)$/i.test(name)));

/** All flows of a record. */
export function readFlows(record: unknown): ReadRecord[] {
  if (!isFields(record)) return [{ fault: "not a flow record: no object" }];
  const gcp = Gcp.safeParse(record);
  if (gcp.success) return [readGcp(gcp.data)];
  const group = AzureGroup.safeParse(record);
  if (group.success) return readAzureGroup(group.data);
  const network = AzureNetwork.safeParse(record);
  if (network.success) return readAzureNetwork(network.data);
  return [readRow(rowOfMessage(record) ?? record)];
}

/** One flow a row or object, its fields named as AWS or common firewalls do. */
function readRow(row: Fields): ReadRecord {
  const named: Fields = Object.fromEntries(
    Object.entries(row).map(([name, value]) => [name.toLowerCase().replaceAll("-", "_"), value]),
  );
  const field = (...names: string[]): unknown =>
    names.map((name) => named[name]).find((value) => value !== undefined && value !== "-" && value !== "");
  const status = String(field("log_status") ?? "").toUpperCase();
  if (EMPTY.has(status)) return { skip: `no flow (${status})` };
  const at = timeOf(field("start", "start_time", "timestamp", "time", "end"));
  const end = timeOf(field("end", "end_time"));
  const action = String(field("action", "disposition", "verdict") ?? "").toUpperCase();
  if (at === undefined) return { fault: "a flow record without a start time" };
  if (action === "") return { fault: "a flow record without an action" };
  if (EMPTY.has(action)) return { skip: `no flow (${action})` };
  if (ALLOWED.has(action)) return { skip: "accepted flow" };
  return refused({
    at,
    durationMs: end === undefined ? 0 : Math.max(0, end - at),
    sensor: textOf(field("interface_id", "interface", "sensor", "host")),
    action: action.toLowerCase(),
    rule: null,
    protocol: field("protocol", "proto"),
    // Behind address translation the packet's own addresses are those that the sandbox dialled.
    fromIp: field("pkt_srcaddr", "srcaddr", "src_ip", "source_ip", "src_addr", "src"),
    fromPort: field("srcport", "src_port", "source_port"),
    toIp: field("pkt_dstaddr", "dstaddr", "dst_ip", "dest_ip", "destination_ip", "dst_addr", "dst"),
    toPort: field("dstport", "dst_port", "dest_port", "destination_port"),
  });
}

interface Refused {
  readonly at: number;
  readonly durationMs?: number;
  readonly sensor: string | null;
  readonly action: string;
  readonly rule: string | null;
  readonly protocol: unknown;
  readonly fromIp: unknown;
  readonly fromPort: unknown;
  readonly toIp: unknown;
  readonly toPort: unknown;
  readonly raw?: unknown;
}

function refused({ at, durationMs, sensor, action, rule, ...flow }: Refused): ReadRecord {
  const toPort = portOf(flow.toPort);
  return {
    ...NOTHING,
    at,
    durationMs: durationMs ?? 0,
    source: "flow-log",
    sensor,
    title: `${action} by ${rule ?? "the network"}${toPort === null ? "" : `, port ${toPort}`}`,
    severity: "medium",
    protocol: protocolOf(flow.protocol),
    fromIp: addressOf(flow.fromIp),
    fromPort: portOf(flow.fromPort),
    toIp: addressOf(flow.toIp),
    toPort,
    ...(flow.raw === undefined ? {} : { raw: flow.raw }),
  };
}

/** An event of CloudWatch Logs has the row as its message. */
function rowOfMessage(record: Fields): Fields | undefined {
  if (typeof record.message !== "string") return undefined;
  const cells = record.message.trim().split(/\s+/);
  if (cells.length !== AWS_FIELDS.length || !/^\d+$/.test(cells[0]!)) return undefined;
  return Object.fromEntries(AWS_FIELDS.map((name, i) => [name, cells[i]]));
}

const scalar = z.union([z.string(), z.number()]);

const Gcp = z.looseObject({
  timestamp: scalar.optional(),
  jsonPayload: z.looseObject({
    connection: z.looseObject({
      src_ip: z.string().optional(),
      src_port: scalar.optional(),
      dest_ip: z.string().optional(),
      dest_port: scalar.optional(),
      protocol: scalar.optional(),
    }),
    disposition: z.string().optional(),
    start_time: scalar.optional(),
    instance: z.looseObject({ vm_name: z.string().optional() }).optional(),
    rule_details: z.looseObject({ reference: z.string().optional() }).optional(),
  }),
});

/** An entry of firewall rules logging. Entries of VPC flow logs have no disposition: what they tell of was let through. */
function readGcp({ timestamp, jsonPayload }: z.infer<typeof Gcp>): ReadRecord {
  const { connection, disposition, instance, rule_details: rule } = jsonPayload;
  if (disposition === undefined) return { skip: "flow without a disposition" };
  if (ALLOWED.has(disposition.toUpperCase())) return { skip: "accepted flow" };
  const at = timeOf(jsonPayload.start_time) ?? timeOf(timestamp);
  if (at === undefined) return { fault: "a log entry without a timestamp" };
  return refused({
    at,
    sensor: instance?.vm_name ?? null,
    action: disposition.toLowerCase(),
    rule:
      rule?.reference
        ?.split("/")
        .at(-1)
        ?.replace(/^firewall(?:Policy)?:/, "") ?? null,
    protocol: connection.protocol,
    fromIp: connection.src_ip,
    fromPort: connection.src_port,
    toIp: connection.dest_ip,
    toPort: connection.dest_port,
  });
}

const AzureGroup = z.looseObject({
  properties: z.looseObject({
    flows: z.array(
      z.looseObject({
        rule: z.string(),
        flows: z.array(z.looseObject({ mac: z.string().optional(), flowTuples: z.array(z.string()) })),
      }),
    ),
  }),
});

/** A record of a network security group: time in seconds, then ends, protocol as letter, direction, `A` or `D`. */
function readAzureGroup({ properties }: z.infer<typeof AzureGroup>): ReadRecord[] {
  return properties.flows.flatMap(({ rule, flows }) =>
    flows.flatMap(({ mac, flowTuples }) =>
      flowTuples.map((tuple) => {
        const [time, fromIp, toIp, fromPort, toPort, protocol, , decision] = tuple.split(",");
        const ends = { fromIp, toIp, fromPort, toPort, protocol };
        return readTuple({ time, decision, rule, mac: mac ?? null, tuple, ...ends });
      }),
    ),
  );
}

const AzureNetwork = z.looseObject({
  macAddress: z.string().optional(),
  flowRecords: z.looseObject({
    flows: z.array(
      z.looseObject({
        flowGroups: z.array(z.looseObject({ rule: z.string(), flowTuples: z.array(z.string()) })),
      }),
    ),
  }),
});

/** A record of a virtual network: time in milliseconds, then ends, protocol as number, direction, state, of which `D` is denied. */
function readAzureNetwork({ macAddress, flowRecords }: z.infer<typeof AzureNetwork>): ReadRecord[] {
  return flowRecords.flows.flatMap(({ flowGroups }) =>
    flowGroups.flatMap(({ rule, flowTuples }) =>
      flowTuples.map((tuple) => {
        const [time, fromIp, toIp, fromPort, toPort, protocol, , state] = tuple.split(",");
        const decision = state === "D" ? "D" : state === undefined ? undefined : "A";
        const ends = { fromIp, toIp, fromPort, toPort, protocol };
        return readTuple({ time, decision, rule, mac: macAddress ?? null, tuple, ...ends });
      }),
    ),
  );
}

interface Tuple extends Pick<Refused, "fromIp" | "fromPort" | "toIp" | "toPort" | "protocol"> {
  readonly time: string | undefined;
  readonly decision: string | undefined;
  readonly rule: string;
  readonly mac: string | null;
  readonly tuple: string;
}

function readTuple({ time, decision, rule, mac, tuple, ...ends }: Tuple): ReadRecord {
  const at = timeOf(time);
  if (at === undefined || (decision !== "A" && decision !== "D"))
    return { fault: `the flow tuple ${JSON.stringify(tuple)} has no time or no decision` };
  if (decision === "A") return { skip: "accepted flow" };
  return refused({ at, sensor: mac, action: "deny", rule, ...ends, raw: { rule, mac, tuple } });
}
