import type { EventOf, Telemetry, TelemetryProcess } from "@ale/core";
import type { Incident, IncidentFlow, IncidentProcess } from "./incident.ts";
import type { Attempt } from "./incident-head.ts";
import type { SeenRecord } from "./incident-records.ts";

/** What an incident's records show: processes as a tree, connections with their bytes, names asked for, files, system calls. */

interface Node {
  process: Omit<IncidentProcess, "depth" | "alerted">;
  parent: number | undefined;
}

/** Depth first, children by the time they were started. */
export function processesOf(attempt: Attempt, records: readonly SeenRecord[]): IncidentProcess[] {
  const alerted = [
    ...attempt.alerts.map(({ alert }) => alert.process),
    ...attempt.alarms.map(({ place }) => place.process),
  ].filter((process) => process !== undefined);
  const nodes = new Map<number, Node>();
  for (const process of [...records.map(({ record }) => record.process), ...alerted])
    if (process !== undefined) addWithAncestors(nodes, process);
  const alertedPids = new Set(alerted.map(({ pid }) => pid));
  const shown: IncidentProcess[] = [];
  const place = (pid: number, depth: number): void => {
    shown.push({ ...nodes.get(pid)!.process, depth, alerted: alertedPids.has(pid) });
    for (const child of childrenOf(nodes, pid)) place(child, depth + 1);
  };
  for (const root of childrenOf(nodes, undefined)) place(root, 0);
  return shown;
}

function addWithAncestors(nodes: Map<number, Node>, process: TelemetryProcess): void {
  const { lineage = [], ancestry = [], ...own } = process;
  const ancestors = lineage.map(({ pid, startedAt }, i): Node["process"] => {
    const command = ancestry[i];
    return { pid, startedAt, ...(command === undefined ? {} : { command }) };
  });
  for (const [i, one] of [own, ...ancestors].entries()) {
    const known = nodes.get(one.pid);
    const parent = ancestors[i]?.pid ?? known?.parent;
    // A process that replaced itself has two command lines: the later one is what acted.
    nodes.set(one.pid, {
      process: i === 0 ? renewed(one, known) : { ...one, ...known?.process },
      parent,
    });
  }
}

/** Of a program that was over before its command line could be read, only its path is told. Another collector may have been faster. */
function renewed(one: Node["process"], known: Node | undefined): Node["process"] {
  const { command, arguments: lacking, ...rest } = one;
  // Older logs do not say what is lacking.
  const isPathAlone = lacking === "unknown" || (command !== undefined && command === one.exe);
  if (isPathAlone && known?.process.exe === one.exe && known?.process.command !== undefined)
    return { ...known.process, ...rest };
  // What was lacking then is not lacking of another command line.
  const { arguments: _, ...before }: Partial<Node["process"]> = known?.process ?? {};
  return { ...before, ...one };
}

const childrenOf = (nodes: ReadonlyMap<number, Node>, parent: number | undefined): number[] =>
  [...nodes]
    .filter(([pid, node]) => (node.parent ?? undefined) === parent && pid !== parent)
    .sort(([, a], [, b]) => (a.process.startedAt ?? 0) - (b.process.startedAt ?? 0))
    .map(([pid]) => pid);

/** One a connection; refused attempts at one place that look alike are one with a count. */
export function flowsOf(records: readonly SeenRecord[]): IncidentFlow[] {
  const byFlow = new Map<string, Telemetry[]>();
  for (const { seq, record, flow } of records) {
    if (record.net === undefined) continue;
    const key = flow ?? `line ${seq}`;
    byFlow.set(key, [...(byFlow.get(key) ?? []), record]);
  }
  const alike = new Map<string, IncidentFlow>();
  for (const flow of [...byFlow.values()].map(flowOf)) {
    const { at, flow: id, attempts, bytesUp, bytesDown, durationMs, pid, ...looks } = flow;
    const key = looks.refused === undefined ? (id ?? `at ${at}`) : JSON.stringify(looks);
    const known = alike.get(key);
    alike.set(key, known === undefined ? flow : { ...known, attempts: known.attempts + 1 });
  }
  return [...alike.values()].sort((a, b) => a.at - b.at);
}

function flowOf(records: readonly Telemetry[]): IncidentFlow {
  const net: NonNullable<Telemetry["net"]> = Object.assign({}, ...records.map(({ net }) => net ?? {}));
  const deny = records.find(({ kind }) => kind === "net.deny");
  const pid = records.find(({ process }) => process !== undefined)?.process?.pid;
  const { flow, protocol, host, ip, port, head, claimed, bytesUp, bytesDown, durationMs, upstream } = net;
  const refused = deny === undefined ? undefined : refusalOf(deny);
  const facts = {
    pid,
    protocol,
    host,
    ip,
    port,
    refused,
    passed: records.some(({ kind }) => kind === "net.flow") ? (true as const) : undefined,
    class: net.class,
    head,
    claimed,
    bytesUp,
    bytesDown,
    durationMs,
  };
  return {
    flow: flow ?? null,
    at: Math.min(...records.map(({ at, net }) => at - (net?.durationMs ?? 0))),
    attempts: 1 + records.reduce((sum, { suppressed }) => sum + (suppressed ?? 0), 0),
    ...(upstream === undefined ? {} : { upstream: `${upstream.ip}:${upstream.port}` }),
    ...given(facts),
  };
}

/** The rule, and of a budget which one was used up. */
function refusalOf({ net }: Telemetry): string {
  const { rule = "default", budget } = net ?? {};
  return budget === undefined ? rule : `${rule}: ${budget.of} ${budget.what}`;
}

/** Without what is undefined, so that a value and its JSON are the same. */
const given = <T extends object>(facts: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined)) as never;

export function namesOf(records: readonly SeenRecord[]): Incident["names"] {
  const names = new Map<string, Incident["names"][number]>();
  for (const { record } of records) {
    if (record.dns === undefined) continue;
    const { name, type, allowed } = record.dns;
    const key = JSON.stringify([name, type, allowed]);
    const more = 1 + (record.suppressed ?? 0);
    names.set(key, { name, ...given({ type, allowed }), count: (names.get(key)?.count ?? 0) + more });
  }
  return [...names.values()];
}

export function syscallsOf(records: readonly SeenRecord[]): Incident["syscalls"] {
  const calls = new Map<string, Incident["syscalls"][number]>();
  for (const { record } of records) {
    if (record.syscall === undefined) continue;
    const { name } = record.syscall;
    const denied = record.kind === "syscall.denied";
    const key = `${name} ${denied}`;
    calls.set(key, { name, denied, count: (calls.get(key)?.count ?? 0) + 1 + (record.suppressed ?? 0) });
  }
  return [...calls.values()];
}

/** What the guard compared after the call, and what collectors saw of other files. */
export function filesOf(
  changes: readonly EventOf<"file.change">[],
  records: readonly SeenRecord[],
): Incident["files"] {
  const compared = changes.map(({ path, change, before, after }) => ({ path, change, before, after }));
  const known = new Set(compared.map(({ path, change }) => `${change} ${path}`));
  const seen = records.flatMap(({ record: { kind, file } }) => {
    if (file === undefined) return [];
    const change = file.change ?? (kind === "file.read" ? "read" : "modified");
    const key = `${change} ${file.path}`;
    if (known.has(key)) return [];
    known.add(key);
    return [{ path: file.path, change, before: null, after: file.sha256 ?? null }];
  });
  return [...compared, ...seen];
}
