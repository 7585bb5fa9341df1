import { type LogEntry, lineTimeMs, type Telemetry, type TelemetryProcess } from "@ale/core";
import { type Act, NO_NETWORK } from "./act.ts";
import { addressOf } from "./alarm.ts";

/** What an episode did that somebody outside may have noticed, read from its log: one act a connection or question, twice where it was seen from two sides. */
export interface RecordedAct extends Act {
  /** Line of its first record. */
  readonly seq: number;
  readonly flow: string | null;
  readonly process: TelemetryProcess | undefined;
}

type Net = NonNullable<Telemetry["net"]>;

/** Records of one connection, the earliest first; or a single one. */
interface Records {
  readonly episode: string;
  readonly seq: number;
  readonly chunk: number | null;
  readonly records: Telemetry[];
}

/** What a monitor on the host sees a process do. */
const LOCAL: ReadonlySet<Telemetry["kind"]> = new Set([
  "process.exec",
  "file.change",
  "file.read",
  "syscall",
  "syscall.denied",
]);

export function actsOf(episode: string, entries: readonly LogEntry[]): RecordedAct[] {
  const connections = new Map<string, Records>();
  const local: Records[] = [];
  const ends = new Map<string, number>();
  for (const entry of entries) {
    const { seq, known, event } = entry;
    if (!known) continue;
    if (event.type === "tool.result") ends.set(event.callId, lineTimeMs(entries[0]!, entry));
    if (event.type !== "telemetry") continue;
    const { record } = event;
    const chunk = record.originChunk ?? record.chunk ?? event.chunk;
    if (record.net === undefined && record.dns === undefined) {
      if (LOCAL.has(record.kind)) local.push({ episode, seq, chunk, records: [record] });
      continue;
    }
    const key = record.net?.flow ?? `line ${seq}`;
    const connection = connections.get(key) ?? { episode, seq, chunk, records: [] };
    connection.records.push(record);
    connections.set(key, connection);
  }
  return [...[...connections.values()].flatMap(sidesOf), ...local.map((one) => localOf(one, ends))];
}

function commonOf({ episode, seq, chunk, records }: Records) {
  const process = records.find((record) => record.process !== undefined)?.process;
  return {
    episode,
    seq,
    chunk,
    callId: records.find(({ callId }) => callId !== undefined)?.callId ?? null,
    sandbox: records.find(({ sandbox }) => sandbox !== null)?.sandbox ?? null,
    pid: process?.pid ?? null,
    program: process?.exe ?? null,
    command: process?.command ?? null,
    process,
  };
}

function sidesOf(connection: Records): RecordedAct[] {
  const { records } = connection;
  const net: Net = Object.assign({}, ...records.map((record) => record.net ?? {}));
  const begins = records.map(({ at, net }) => at - (net?.durationMs ?? 0));
  const dns = records.find((record) => record.dns !== undefined)?.dns;
  const inside: RecordedAct = {
    ...commonOf(connection),
    at: Math.min(...begins),
    durationMs: net.durationMs ?? 0,
    protocol: dns === undefined ? (net.protocol ?? null) : "udp",
    ip: addressOf(net.ip),
    port: net.port ?? (dns === undefined ? null : 53),
    host: net.host ?? dns?.name ?? null,
    fromIp: null,
    fromPort: net.sourcePort ?? null,
    path: null,
    flow: net.flow ?? null,
  };
  if (net.upstream === undefined) return [inside];
  // A host's own monitor sees the sandbox's side, a firewall beyond the gateway the connection that was dialled for it.
  const { ip, port, sourceIp, sourcePort } = net.upstream;
  return [
    inside,
    { ...inside, ip: addressOf(ip), port, fromIp: addressOf(sourceIp), fromPort: sourcePort ?? null },
  ];
}

/** What a program does later falls within the call that started it, as far as that is known. */
function localOf(one: Records, ends: ReadonlyMap<string, number>): RecordedAct {
  const [record] = one.records as [Telemetry];
  const common = commonOf(one);
  const end = record.kind === "process.exec" ? ends.get(common.callId ?? "") : undefined;
  return {
    ...common,
    ...NO_NETWORK,
    at: record.at,
    durationMs: end === undefined ? 0 : Math.max(0, end - record.at),
    path: record.file?.path ?? null,
    flow: null,
  };
}
