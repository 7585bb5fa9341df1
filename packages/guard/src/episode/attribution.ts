import type { Telemetry, TelemetryProcess } from "@ale/core";
import { RecentMap } from "../recent-map.ts";
import type { CallSpan, CallTimeline } from "./timeline.ts";

/**
 * Which chunk a record belongs to, and which chunk caused it. The first is a matter of time; the second of descent: of the process and its
 * ancestors the oldest that was started since the first call says which call started it all. Shells that were there before any call say
 * nothing. Where neither is known, time stands in for the cause. docs/explanation/attribution.md says how sure that is.
 */

/** The kernel tells starts of processes in ticks of this length, so that a start may lie so much before or after what is told. */
export const START_TICK_MS = 10;
const MAX_PROCESSES = 8_192;
const MAX_FLOWS = 8_192;

export interface ProcessStart {
  readonly pid: number;
  readonly startedAt: number;
}

export interface Candidate {
  readonly chunk: number;
  readonly callId: string;
}

export interface Attribution {
  /** During which it happened. */
  readonly during: CallSpan;
  readonly cause: CallSpan;
  readonly how: "certain" | "ancestry" | "interval";
  /** The process that a call started, and that this one is or descends from. */
  readonly root?: ProcessStart;
  /** Calls that the root may have been started by, where its start is not told exactly enough for one. */
  readonly candidates?: readonly Candidate[];
}

/** Who did it, whenever that was. */
type Origin = Pick<Attribution, "cause" | "how" | "root" | "candidates">;

interface Known {
  readonly startedAt: number;
  readonly lineage: readonly ProcessStart[];
  /** No process is seen before it is started, which bounds a start that is only told in ticks. */
  firstSeenAt: number;
}

export class Attributor {
  readonly #timeline: CallTimeline;
  readonly #known = new RecentMap<number, Known>(MAX_PROCESSES);
  readonly #holders = new RecentMap<string, Origin>(MAX_FLOWS);

  constructor(timeline: CallTimeline) {
    this.#timeline = timeline;
  }

  /** Null: no call had begun, so that no chunk is to blame. `endedAt`: from then on only descent counts, because nobody acts any more. */
  attribute(record: Telemetry, endedAt = Number.POSITIVE_INFINITY): Attribution | null {
    const descent = this.#descentOf(record);
    const during = this.#timeline.at(record.at);
    const latest = this.#timeline.ranAt(record.at);
    if (during === null || latest === null) return null;
    const root = this.#rootOf(descent, record.at);
    const flow = record.net?.flow;
    if (root !== undefined) {
      const found = { ...this.#callOf(root, record.at), root };
      if (flow !== undefined) this.#holders.set(flow, found);
      return { during, ...found };
    }
    // Somebody was seen to hold this connection before.
    const holder = flow === undefined ? undefined : this.#holders.get(flow);
    if (holder !== undefined && holder.cause.beganAt <= record.at) return { during, ...holder };
    return record.at > endedAt ? null : { during, cause: latest, how: "interval" };
  }

  /** The process and its ancestors with their starts; of a process that a record says less of, what an earlier one said. */
  #descentOf({ process, at }: Telemetry): readonly ProcessStart[] {
    if (process === undefined) return [];
    if (process.startedAt !== undefined) return this.#learn(process, process.startedAt, at);
    const known = this.#known.get(process.pid);
    // A number that was given away again belongs to a process that was seen later.
    if (known === undefined || known.startedAt > at + START_TICK_MS) return [];
    return [{ pid: process.pid, startedAt: known.startedAt }, ...known.lineage];
  }

  #learn(process: TelemetryProcess, startedAt: number, at: number): readonly ProcessStart[] {
    const { pid } = process;
    const lineage = belowShell(process);
    if (lineage === null) return [];
    const known = this.#known.get(pid);
    if (known?.startedAt === startedAt) known.firstSeenAt = Math.min(known.firstSeenAt, at);
    else this.#known.set(pid, { startedAt, lineage, firstSeenAt: at });
    return [{ pid, startedAt }, ...lineage];
  }

  /** The oldest that was started since the first call. What claims to be younger than the record is not believed. */
  #rootOf(descent: readonly ProcessStart[], at: number): ProcessStart | undefined {
    let root: ProcessStart | undefined;
    for (const one of descent) {
      if (one.startedAt > at + START_TICK_MS) continue;
      if (this.#timeline.ranAt(this.#latestStart(one, at)) === null) continue;
      if (root === undefined || one.startedAt < root.startedAt) root = one;
    }
    return root;
  }

  #latestStart({ pid, startedAt }: ProcessStart, at: number): number {
    const known = this.#known.get(pid);
    const seenAt = known?.startedAt === startedAt ? known.firstSeenAt : at;
    return Math.min(startedAt + START_TICK_MS, seenAt, at);
  }

  /**
   * Calls start processes while they run. A process that begins in the gap between two calls has a parent, unless that one is gone: then
   * it is blamed on the call before the gap.
   */
  #callOf(root: ProcessStart, at: number): Origin {
    const to = this.#latestStart(root, at);
    const running = this.#timeline.runningBetween(root.startedAt - START_TICK_MS, to);
    const cause = running.at(-1) ?? this.#timeline.ranAt(to)!;
    if (running.length < 2) return { cause, how: "ancestry" };
    const candidates = running.map(({ chunk, callId }) => ({ chunk, callId }));
    const isOneChunk = running.every(({ chunk }) => chunk === cause.chunk);
    return { cause, how: isOneChunk ? "ancestry" : "interval", candidates };
  }
}

/**
 * Its ancestors below the shell that a driver keeps for a session, which may begin with any call and runs what many of them ask for. Null:
 * it is such a shell itself.
 */
export function belowShell({ pid, shell, lineage = [] }: TelemetryProcess): readonly ProcessStart[] | null {
  if (shell === pid) return null;
  const at = shell === undefined ? -1 : lineage.findIndex((one) => one.pid === shell);
  return at < 0 ? lineage : lineage.slice(0, at);
}
