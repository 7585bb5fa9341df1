import type { Trajectory } from "@ale/core";

/**
 * Whether an episode may become a learning signal. An episode is refused when its environment failed it, when it was cut off
 * from outside, or when it only repeats ill-formed calls (ROME report §3.2.4.1, dynamic trajectory filtering; §3.1.3, gate 1).
 */
export type Rejection =
  | { readonly reason: "environment-fault"; readonly detail: string }
  | { readonly reason: "no-verdict"; readonly detail: string }
  | { readonly reason: "cancelled"; readonly detail: string }
  | { readonly reason: "malformed-calls"; readonly detail: string }
  | { readonly reason: "empty"; readonly detail: string };

export interface FilterSettings {
  /** Reject when at least this share of the chunks (and at least two) are not well-formed tool calls; 1.1 never rejects. */
  readonly malformedShare: number;
}

export const defaultFilter: FilterSettings = { malformedShare: 1.1 };

/** Returns why the trajectory is refused, or null when it may be learnt from. Order of the checks is order of blame. */
export function rejectionOf(
  trajectory: Trajectory,
  settings: FilterSettings = defaultFilter,
): Rejection | null {
  const fault = trajectory.faults[0];
  if (fault !== undefined) return { reason: "environment-fault", detail: `${fault.what}: ${fault.detail}` };
  const verdict = trajectory.verdict;
  if (verdict?.environmentFault !== undefined)
    return { reason: "environment-fault", detail: verdict.environmentFault };
  if (trajectory.termination === "environment-fault")
    return { reason: "environment-fault", detail: "the environment ended the episode" };
  if (trajectory.termination === "cancelled")
    return { reason: "cancelled", detail: "the episode was cancelled from outside" };
  if (verdict === null || verdict.reward === null)
    return { reason: "no-verdict", detail: "the verifier gave no reward" };
  if (trajectory.chunks.length === 0) return { reason: "empty", detail: "the episode has no chunk" };
  const malformed = trajectory.chunks.filter((chunk) => chunk.malformed).length;
  if (malformed >= 2 && malformed >= settings.malformedShare * trajectory.chunks.length) {
    return {
      reason: "malformed-calls",
      detail: `${malformed} of ${trajectory.chunks.length} chunks are not well-formed tool calls`,
    };
  }
  return null;
}
