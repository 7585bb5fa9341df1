import type { LogEntry, Telemetry, TelemetryProcess } from "@ale/core";
import type { NetworkAct } from "./landing.ts";

/** What an episode did towards the network, read from its log: one act a connection or question, twice where it was seen from two sides. */
export interface RecordedAct extends NetworkAct {
  /** Line of its first record. */
  readonly seq: number;
  readonly flow: string | null;
  readonly process: TelemetryProcess | undefined;
}

type Net = NonNullable<Telemetry["net"]>;

/** Records of one connection, the earliest first. */
interface Connection {
  readonly episode: string;
  readonly seq: number;
  readonly chunk: number | null;
  readonly records: Telemetry[];
}

export function actsOf(episode: string, entries: readonly LogEntry[]): RecordedAct[] {
  const connections = new Map<string, Connection>();
  for (const { seq, known, event } of entries) {
    if (!known || event.type !== "telemetry") continue;
    const { record } = event;
    if (record.net === undefined && record.dns === undefined) continue;
    const key = record.net?.flow ?? `line ${seq}`;
    const chunk = record.originChunk ?? record.chunk ?? event.chunk;
    const connection = connections.get(key) ?? { episode, seq, chunk, records: [] };
    connection.records.push(record);
    connections.set(key, connection);
  }
  return [...connections.values()].flatMap(sidesOf);
}

function sidesOf({ episode, seq, chunk, records }: Connection): RecordedAct[] {
  const net: Net = Object.assign({}, ...records.map((record) => record.net ?? {}));
  const process = records.find((record) => record.process !== undefined)?.process;
  const begins = records.map(({ at, net }) => at - (net?.durationMs ?? 0));
  const at = Math.min(...begins);
  const inside: RecordedAct = {
    episode,
    seq,
    chunk,
    callId: records.find(({ callId }) => callId !== undefined)?.callId ?? null,
    at,
    durationMs: net.durationMs ?? 0,
    protocol: records.some(({ dns }) => dns !== undefined) ? "udp" : (net.protocol ?? null),
    ip: net.ip ?? null,
    port: net.port ?? (records.some(({ dns }) => dns !== undefined) ? 53 : null),
    host: net.host ?? records.find(({ dns }) => dns !== undefined)?.dns?.name ?? null,
    fromIp: null,
    fromPort: net.sourcePort ?? null,
    pid: process?.pid ?? null,
    command: process?.command ?? null,
    flow: net.flow ?? null,
    process,
  };
  if (net.upstream === undefined) return [inside];
  // A host's own monitor sees the sandbox's side, a firewall beyond the gateway the connection that was dialled for it.
  const { ip, port, sourceIp, sourcePort } = net.upstream;
  return [inside, { ...inside, ip, port, fromIp: sourceIp ?? null, fromPort: sourcePort ?? null }];
}
