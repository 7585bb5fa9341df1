import type { EndReason, SandboxSpec } from "../port/sandbox.ts";

/** What the server knows of a sandbox, also after a crash, and how its state may change. Pure. */

export type SandboxState = "pending" | "running" | "stopped" | "deleted" | "failed";

export type PhaseStatus = "waiting" | "running" | "success" | "failed";

/** A step of getting a sandbox to run. */
export interface Phase {
  readonly status: PhaseStatus;
  /** Why it failed, or how far it is. Empty where there is nothing to say. */
  readonly message: string;
  readonly startedAtMs: number | null;
  readonly completedAtMs: number | null;
}

export interface Phases {
  readonly image: Phase;
  readonly start: Phase;
}

export interface Transition {
  readonly from: SandboxState | null;
  readonly to: SandboxState;
  /** What caused it: a request (create, fork, stop, restart, delete), an end reason, or `adopt` after a crash of the server. */
  readonly event: string;
  readonly atMs: number;
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly next: string | null;
}

export interface SandboxRecord {
  readonly id: string;
  /** The driver's name for it; null until it has one. */
  readonly driverId: string | null;
  readonly tenant: string;
  /** Without the contents of `files`, once they have been written. */
  readonly spec: SandboxSpec;
  readonly state: SandboxState;
  readonly phases: Phases;
  readonly createdAtMs: number;
  /** Of the last start. */
  readonly startedAtMs: number | null;
  /** When it last stopped, was deleted, or failed. */
  readonly endedAtMs: number | null;
  readonly endReason: EndReason | "lost" | null;
  readonly failure: Failure | null;
  /** The last 100, oldest first. */
  readonly history: readonly Transition[];
  /** The snapshot it was forked from. */
  readonly snapshot: string | null;
  /** Deleted so long after it stopped; 0: at once; null: never. */
  readonly deleteAfterStopMs: number | null;
  /** Kept for the API through which it was made; never interpreted here. */
  readonly notes: Readonly<Record<string, string>>;
  readonly idempotency: { readonly key: string; readonly digest: string } | null;
}

const HISTORY_LENGTH = 100;

const MAY_FOLLOW: Readonly<Record<SandboxState, readonly SandboxState[]>> = {
  pending: ["running", "failed", "stopped", "deleted"],
  running: ["stopped", "deleted", "failed"],
  stopped: ["pending", "deleted"],
  failed: ["deleted"],
  deleted: [],
};

export const PENDING_PHASE: Phase = {
  status: "waiting",
  message: "",
  startedAtMs: null,
  completedAtMs: null,
};
export const PENDING_PHASES: Phases = { image: PENDING_PHASE, start: PENDING_PHASE };

export function mayBecome(from: SandboxState, to: SandboxState): boolean {
  return MAY_FOLLOW[from].includes(to);
}

/** The record in a new state. A transition that cannot be is a bug of the caller and throws. */
export function become(
  record: SandboxRecord,
  to: SandboxState,
  event: string,
  atMs: number,
  more: Partial<SandboxRecord> = {},
): SandboxRecord {
  if (!mayBecome(record.state, to)) throw new Error(`${record.id}: ${record.state} cannot become ${to}`);
  const transition: Transition = { from: record.state, to, event, atMs };
  return {
    ...record,
    state: to,
    startedAtMs: to === "running" ? atMs : record.startedAtMs,
    endedAtMs: to === "running" || to === "pending" ? null : atMs,
    history: [...record.history, transition].slice(-HISTORY_LENGTH),
    ...more,
  };
}

export function withPhase(
  record: SandboxRecord,
  name: keyof Phases,
  status: PhaseStatus,
  atMs: number,
  message = "",
): SandboxRecord {
  const before = record.phases[name];
  const phase: Phase = {
    status,
    message,
    startedAtMs: before.startedAtMs ?? (status === "waiting" ? null : atMs),
    completedAtMs: status === "success" || status === "failed" ? atMs : null,
  };
  return { ...record, phases: { ...record.phases, [name]: phase } };
}

/** Whether it holds processes, or is about to. */
export const isLive = (record: SandboxRecord): boolean =>
  record.state === "pending" || record.state === "running";

/** Whether it holds files on the host, or is about to. */
export const hasFiles = (record: SandboxRecord): boolean => isLive(record) || record.state === "stopped";
