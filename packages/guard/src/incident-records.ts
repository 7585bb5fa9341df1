import type { LogEntry, Telemetry } from "@ale/core";
import { flowsOf, treeOf } from "./incident-cause.ts";
import type { Attempt } from "./incident-head.ts";

/** Which of a log's telemetry belongs to which incident. */
export interface SeenRecord {
  readonly seq: number;
  readonly record: Telemetry;
  /** The connection that it is of, where that is known. */
  readonly flow: string | undefined;
  /** That connection is what an alert is about. */
  readonly alertedFlow: boolean;
}

/** What is counted rather than done says nothing of one attempt. */
const LEFT_OUT: ReadonlySet<Telemetry["kind"]> = new Set(["resource.sample", "tool.call", "policy.change"]);

interface Marks {
  /** Of connections that alerts and alarms name. */
  readonly named: ReadonlySet<string>;
  readonly flows: Set<string>;
  readonly trees: ReadonlySet<string>;
  readonly pids: ReadonlySet<number>;
  readonly callIds: ReadonlySet<string>;
  readonly chunk: number;
}

/**
 * One list an attempt, in order. A record belongs to the attempt whose connection it is of, else to the one whose process or process tree
 * did it; what has neither goes to the first attempt of its call.
 */
export function recordsOf(entries: readonly LogEntry[], attempts: readonly Attempt[]): SeenRecord[][] {
  const marks = attempts.map(marksOf);
  const seen = withFlows(
    entries.flatMap(({ seq, known, event }): Seen[] =>
      known && event.type === "telemetry" && !LEFT_OUT.has(event.record.kind)
        ? [
            {
              seq,
              record: event.record,
              chunk: event.record.originChunk ?? event.record.chunk ?? event.chunk,
            },
          ]
        : [],
    ),
  );
  const owned: SeenRecord[][] = attempts.map(() => []);
  const owners = new Map<number, number>();
  // Twice: a connection may be known by a record that comes after its first.
  for (const round of [0, 1])
    for (const one of seen) {
      if (owners.has(one.seq)) continue;
      const owner = ownerOf(one, marks, round === 1);
      if (owner < 0) continue;
      owners.set(one.seq, owner);
      if (one.flow !== undefined) marks[owner]!.flows.add(one.flow);
    }
  for (const { seq, record, flow } of seen) {
    const owner = owners.get(seq);
    if (owner === undefined) continue;
    const alertedFlow = flow !== undefined && marks[owner]!.named.has(flow);
    owned[owner]!.push({ seq, record, flow, alertedFlow });
  }
  return owned;
}

interface Seen {
  readonly seq: number;
  readonly record: Telemetry;
  readonly chunk: number | null;
}
type SeenFlow = Seen & { readonly flow: string | undefined };

/** So long a connection may have been asked for before it was answered. */
const ASKED_BEFORE_MS = 5_000;

/** Who sees a process ask for a connection does not know its name: it is the next one that this process has at that place. */
function withFlows(seen: readonly Seen[]): SeenFlow[] {
  const answered = seen.filter(
    ({ record: { net, process } }) => net?.flow !== undefined && process !== undefined,
  );
  return seen.map((one): SeenFlow => {
    const { kind, net, process, at } = one.record;
    if (kind !== "net.connect" || net?.flow !== undefined || process === undefined)
      return { ...one, flow: net?.flow };
    const found = answered.find(
      ({ record }) =>
        record.process?.pid === process.pid &&
        record.net?.ip === net?.ip &&
        record.net?.port === net?.port &&
        record.at >= at &&
        record.at - at <= ASKED_BEFORE_MS,
    );
    return { ...one, flow: found?.record.net?.flow };
  });
}

function marksOf({ head, alerts, alarms }: Attempt): Marks {
  const processes = [
    ...alerts.map(({ alert }) => alert.process),
    ...alarms.map(({ place }) => place.process),
  ].filter((process) => process !== undefined);
  const named = [
    ...alerts.flatMap(({ alert }) => flowsOf(alert)),
    ...alarms.flatMap(({ place }) => (place.flow === null ? [] : [place.flow])),
  ];
  return {
    named: new Set(named),
    flows: new Set(named),
    trees: new Set(processes.map(treeOf).filter((tree) => tree !== undefined)),
    pids: new Set(processes.map(({ pid }) => pid)),
    callIds: new Set(head.callIds),
    chunk: head.chunk,
  };
}

function ownerOf({ record, chunk, flow }: SeenFlow, marks: readonly Marks[], last: boolean): number {
  const { process, callId } = record;
  const byFlow = flow === undefined ? -1 : marks.findIndex(({ flows }) => flows.has(flow));
  if (byFlow >= 0) return byFlow;
  if (!last) return -1;
  const ancestors = process === undefined ? [] : [process, ...(process.lineage ?? [])];
  // The nearest ancestor that was alerted: several attempts may have one tree.
  for (const { pid } of ancestors.slice(0, Math.max(1, ancestors.length - 1))) {
    // The agent's shell acts in every chunk.
    const isShell = pid === process?.pid && treeOf(process) === undefined;
    const byPid = marks.findIndex((mark) => mark.pids.has(pid) && (!isShell || mark.chunk === chunk));
    if (byPid >= 0) return byPid;
  }
  const tree = treeOf(process);
  const byTree = marks.findIndex(({ trees }) => tree !== undefined && trees.has(tree));
  if (byTree >= 0 || callId === undefined) return byTree;
  return marks.findIndex((mark) => mark.chunk === chunk && mark.callIds.has(callId));
}
