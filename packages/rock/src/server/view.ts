import type { SandboxSpec } from "../port/sandbox.ts";
import type { SandboxView } from "../wire/schemas.ts";
import type { SandboxRecord } from "./record.ts";
import { ownLabels } from "./tenant-snapshots.ts";

/** A record as it leaves over the native API: without the values of the environment and without what is the server's own. */
export function viewOf(record: SandboxRecord): SandboxView {
  const { id, tenant, state, spec, snapshot, deleteAfterStopMs } = record;
  return {
    id,
    tenant,
    state,
    ...shownSpec(spec),
    deleteAfterStopMs,
    createdAtMs: record.createdAtMs,
    startedAtMs: record.startedAtMs,
    endedAtMs: record.endedAtMs,
    endReason: record.endReason,
    snapshot,
    phases: record.phases,
    failure: record.failure,
    history: [...record.history],
  };
}

const shownSpec = (spec: SandboxSpec) => ({
  image: spec.image,
  labels: { ...ownLabels(spec.labels) },
  limits: spec.limits,
  network: spec.network,
  workdir: spec.workdir ?? null,
  user: spec.user ?? null,
  envNames: Object.keys(spec.env ?? {}),
  idleMs: spec.idleMs ?? null,
});
