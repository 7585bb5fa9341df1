import { type Alert, isAtLeast, Severity, VIOLATION_SEVERITY } from "@ale/core";
import { z } from "zod";

/**
 * What alerts do to the return. A trajectory with a violation is never a positive example, whatever its tests say; the modes differ in where
 * the negative signal goes. This file only computes numbers: how returns weigh tokens is `roll`'s business.
 *
 * An alert a, caused by chunk c(a), costs p(a): `bySeverity` of its severity, and `penalty` where that says nothing. It is a violation if it is
 * at least `minSeverity`, and a slip if it is not and p(a) < 0; a slip costs nothing unless `bySeverity` says so. With K chunks, violations
 * V ≠ ∅, v = min c(V), P = min p(V), and q_k the lowest p of the slips that chunk k caused:
 *   chunk     G_k = min{ p(a) : a ∈ V, c(a) ≤ k } for k ≥ v, and 0 for k < v: what came before the violation is neither praised nor blamed,
 *             the violation and everything built on it is. The terminal reward is P, so that a method that reads only rewards sees a failure.
 *   terminal  R = P for the whole trajectory, discounted by the caller as any terminal reward.
 *   both      R = P, discounted, for k < v, and as in `chunk` for k ≥ v: all of the trajectory is blamed, the violation in full.
 *   off       nothing changes; alerts are still recorded and counted.
 * Without a violation the reward is the task's own. In `chunk` and `both` the return of a chunk that caused slips is q_k instead of its own, or
 * the lower of q_k and what is above; in `terminal` slips cost nothing, because there is no chunk to charge.
 * test/vectors/penalties.json has worked examples.
 */
const Cost = z.number().max(0);
const BySeverity = z.strictObject({
  low: Cost.optional(),
  medium: Cost.optional(),
  high: Cost.optional(),
  critical: Cost.optional(),
});

export const PenaltyPolicy = z.strictObject({
  mode: z.enum(["off", "chunk", "terminal", "both"]).default("chunk"),
  /** Never positive, because a violation must not be rewarded. 0 means "not an example at all". */
  penalty: Cost.default(-1),
  /** Alerts below this are no violation. */
  minSeverity: Severity.default(VIOLATION_SEVERITY),
  /** Instead of `penalty`, e.g. { low: 0, medium: -0.2, high: -1, critical: -1 }. */
  bySeverity: BySeverity.optional(),
});
export type PenaltyPolicy = z.infer<typeof PenaltyPolicy>;

/** One a chunk; null: as usual. */
export type ChunkPenalties = readonly (number | null)[];

export type Penalty =
  | { readonly kind: "unchanged" }
  /** There were slips and no violation: the reward is the task's own, some chunks have another return. */
  | { readonly kind: "slips"; readonly chunkReturns: ChunkPenalties }
  | {
      readonly kind: "override";
      readonly terminalReward: number;
      /** Null: discount `terminalReward` as usual. */
      readonly chunkReturns: ChunkPenalties | null;
      /** v, at most K − 1. */
      readonly firstViolation: number;
    };

type Judged = Pick<Alert, "severity" | "chunk">;

/** Whether some alerts are a violation: one of at least this severity. */
export const isViolation = (
  alerts: readonly Pick<Alert, "severity">[],
  minSeverity: Severity = VIOLATION_SEVERITY,
): boolean => alerts.some((alert) => isAtLeast(alert.severity, minSeverity));

/** The earliest chunk with a violation; null when there is none. */
export function firstViolation(
  alerts: readonly Judged[],
  minSeverity: Severity = VIOLATION_SEVERITY,
): number | null {
  const chunks = alerts.filter((alert) => isAtLeast(alert.severity, minSeverity)).map((alert) => alert.chunk);
  return chunks.length === 0 ? null : Math.min(...chunks);
}

/** p(a) of an alert of this severity. */
export function costOf({ bySeverity, penalty, minSeverity }: PenaltyPolicy, severity: Severity): number {
  return bySeverity?.[severity] ?? (isAtLeast(severity, minSeverity) ? penalty : 0);
}

/** The penalty of one trajectory of `chunkCount` chunks. Pure; the alerts may come in any order. */
export function penaltyOf(policy: PenaltyPolicy, alerts: readonly Judged[], chunkCount: number): Penalty {
  if (policy.mode === "off") return { kind: "unchanged" };
  const charges = alerts.map(({ severity, chunk }) => ({
    // An alert after the last chunk (seen when the episode was wound up) was caused by what the last chunk left behind.
    chunk: Math.max(0, Math.min(chunk, chunkCount - 1)),
    cost: costOf(policy, severity),
    isViolation: isAtLeast(severity, policy.minSeverity),
  }));
  const violations = charges.filter((charge) => charge.isViolation);
  const slips = charges.filter(({ cost, isViolation }) => !isViolation && cost < 0);
  const ofSlips = Array.from({ length: chunkCount }, (_, k) =>
    lowest(slips.filter(({ chunk }) => chunk === k)),
  );
  if (violations.length === 0)
    return slips.length === 0 || policy.mode === "terminal"
      ? { kind: "unchanged" }
      : { kind: "slips", chunkReturns: ofSlips };
  const first = Math.min(...violations.map(({ chunk }) => chunk));
  const before = policy.mode === "chunk" ? 0 : null;
  const chunkReturns =
    policy.mode === "terminal"
      ? null
      : ofSlips.map((slip, k) => {
          const built = lowest(violations.filter(({ chunk }) => chunk <= k)) ?? before;
          return slip === null || built === null ? (slip ?? built) : Math.min(slip, built);
        });
  return { kind: "override", terminalReward: lowest(violations)!, chunkReturns, firstViolation: first };
}

const lowest = (charges: readonly { readonly cost: number }[]): number | null =>
  charges.length === 0 ? null : Math.min(...charges.map(({ cost }) => cost));
