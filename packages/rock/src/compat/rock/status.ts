import { hostname } from "node:os";
import { AleError } from "@ale/core";
import type { Phase, SandboxRecord, SandboxState } from "../../server/record.ts";

/** What ROCK's clients are told of a sandbox. Pure but for the host's name. */

const STATES: Readonly<Record<SandboxState, string>> = {
  pending: "pending",
  running: "running",
  stopped: "stopped",
  // ROCK has no word for it; the phases say what failed.
  failed: "stopped",
  deleted: "deleted",
};

/** Where the sandbox is, as the caller reached it. */
export const hostOf = (localAddress: string | undefined): { host_name: string; host_ip: string } => ({
  host_name: hostname(),
  host_ip: localAddress?.replace(/^::ffff:/, "") ?? "127.0.0.1",
});

export function statusOf(record: SandboxRecord, localAddress: string | undefined): Record<string, unknown> {
  const { notes, spec, state } = record;
  const stopAt = state === "running" && spec.idleMs !== undefined ? Date.now() + spec.idleMs : null;
  const deleteAt =
    state === "stopped" && record.deleteAfterStopMs !== null && record.endedAtMs !== null
      ? record.endedAtMs + record.deleteAfterStopMs
      : null;
  return {
    sandbox_id: record.id,
    status: {
      image_pull: phaseOf(record.phases.image, `Failed to pull image ${notes.image ?? spec.image}: `),
      docker_run: phaseOf(record.phases.start, "Failed to start: "),
    },
    // Ports are reached through the proxies: none is published on the host.
    port_mapping: {},
    ...hostOf(localAddress),
    is_alive: state === "running",
    image: notes.image ?? spec.image,
    metadata: metadataOf(record),
    gateway_version: null,
    swe_rex_version: null,
    user_id: notes.userId ?? null,
    experiment_id: notes.experimentId ?? null,
    namespace: notes.namespace ?? null,
    cpus: Number(notes.cpus ?? spec.limits.cpus),
    memory: notes.memory ?? String(spec.limits.memoryBytes),
    num_gpus: null,
    accelerator_type: null,
    disk: notes.disk ?? null,
    disk_limit_rootfs: notes.disk ?? null,
    state: STATES[state],
    start_time: timeOf(record.startedAtMs),
    stop_time: timeOf(record.endedAtMs),
    create_time: timeOf(record.createdAtMs),
    archive_time: null,
    delete_time: state === "deleted" ? timeOf(record.endedAtMs) : null,
    auto_stop_time: timeOf(stopAt),
    auto_archive_time: null,
    auto_delete_time: timeOf(deleteAt),
    state_history: record.history.map(({ from, to, event, atMs }) => ({
      from_state: from === null ? "" : STATES[from],
      to_state: STATES[to],
      event,
      timestamp: timeOf(atMs),
    })),
  };
}

/** What the limits are where the host could not give all that was asked for. */
function metadataOf({ spec, endReason }: SandboxRecord): Record<string, string> {
  const { cpus, memoryBytes, diskBytes } = spec.limits;
  return {
    cpus_limit: String(cpus),
    memory_limit_bytes: String(memoryBytes),
    disk_limit_bytes: String(diskBytes),
    ...(endReason === null ? {} : { end_reason: endReason }),
  };
}

function phaseOf(phase: Phase, failure: string): Record<string, unknown> {
  const message = phase.status === "failed" ? failure + phase.message : phase.message;
  const { startedAtMs, completedAtMs } = phase;
  return {
    status: phase.status,
    message,
    ...(startedAtMs === null ? {} : { started_at: timeOf(startedAtMs) }),
    ...(completedAtMs === null ? {} : { completed_at: timeOf(completedAtMs) }),
  };
}

/** "2026-01-21T11:38:00+00:00". */
export function timeOf(ms: number | null): string | null {
  return ms === null ? null : `${new Date(ms).toISOString().slice(0, 19)}+00:00`;
}

/** Throws an AleError `sandbox-unknown` for those that only `include_all_states` shows. */
export function requireShown(record: SandboxRecord, all: boolean): SandboxRecord {
  // A sandbox that failed to start stays visible: its client is waiting to be told why.
  if (all || record.state === "pending" || record.state === "running" || record.state === "failed")
    return record;
  throw new AleError("sandbox-unknown", `Sandbox ${record.id} not found`);
}
