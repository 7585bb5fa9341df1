import type { Alert, TelemetryProcess } from "@ale/core";
import { belowShell } from "./episode/attribution.ts";

/**
 * Which alerts and alarms are one attempt: what `causeKey` says has one cause, and whatever is about one connection. Pure, and a function of
 * the alerts alone, so that a list made from an index and the whole story made from a log agree.
 */

/** Of what no rule is known for: the call that did it; where that is unknown the process that began it, else the connection. */
export const actKey = (
  chunk: number | null,
  callId: string | null,
  process: TelemetryProcess | undefined,
  flow: string | null,
): string => `${chunk ?? "none"}/${callId ?? treeOf(process) ?? flow ?? ""}`;

/**
 * The outermost process below the agent's shell, as `pid@start`; undefined for the shell itself: several calls run in it, one after the
 * other, so it is nobody's cause.
 */
export function treeOf(process: TelemetryProcess | undefined): string | undefined {
  if (process === undefined) return undefined;
  const below = belowShell(process);
  if (below === null) return undefined;
  const root = below.at(-1) ?? process;
  return `${root.pid}@${Math.round(root.startedAt ?? 0)}`;
}

/** Connections that an alert is about. */
export const flowsOf = (alert: Alert): readonly string[] => [...new Set(flowsIn(alert.evidence))];

/** However deep: `flow` of a record, or the dotted field of a rule. */
function flowsIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) =>
    typeof member === "string" && /(?:^|\.)flow$/.test(name) ? [member] : flowsIn(member),
  );
}

/** What an alert and an alarm have in common. */
export interface Caused {
  readonly key: string;
  readonly chunk: number;
  readonly callId: string | undefined;
  readonly process: TelemetryProcess | undefined;
  readonly flows: readonly string[];
}

/** By equal key, and where they share a connection. Groups and members stay in the order given. */
export function groupByCause<T extends Caused>(members: readonly T[]): T[][] {
  const groups: T[][] = [];
  for (const member of members) {
    const kin = groups.filter((group) => group.some((other) => isOneCause(member, other)));
    const [first, ...others] = kin;
    if (first === undefined) {
      groups.push([member]);
      continue;
    }
    // One that is kin to several is what shows that they are one.
    for (const other of others) groups.splice(groups.indexOf(other), 1);
    const at = new Map(members.map((one, i) => [one, i]));
    first.push(member, ...others.flat());
    first.sort((a, b) => at.get(a)! - at.get(b)!);
  }
  return groups;
}

const isOneCause = (a: Caused, b: Caused): boolean =>
  a.key === b.key || a.flows.some((flow) => b.flows.includes(flow));

/** The group that an alarm from outside belongs to: of its connection, else of its process tree, else of its call. */
export function kinOf<T extends Caused>(alarm: Caused, groups: readonly T[][]): T[] | undefined {
  const tree = treeOf(alarm.process);
  const tests: readonly ((other: Caused) => boolean)[] = [
    ({ flows }) => alarm.flows.some((flow) => flows.includes(flow)),
    ({ chunk, process }) => chunk === alarm.chunk && tree !== undefined && treeOf(process) === tree,
    ({ chunk, callId }) => chunk === alarm.chunk && callId !== undefined && callId === alarm.callId,
    ({ key }) => key === alarm.key,
  ];
  for (const test of tests) {
    const found = groups.find((group) => group.some(test));
    if (found !== undefined) return found;
  }
  return undefined;
}
