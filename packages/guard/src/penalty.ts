import { type Alert, isAtLeast, Severity, VIOLATION_SEVERITY } from "@ale/core";
import { z } from "zod";

/**
 * What a violation does to the return. A trajectory with a violation is never a positive example, whatever its tests say; the two
 * modes differ in where the negative signal goes. This file only computes numbers: how returns weigh tokens is `roll`'s business.
 *
 * Let v be the earliest chunk with an alert of at least `minSeverity`, K the number of chunks, p = `penalty`.
 *   chunk     G_k = 0 for k < v and G_k = p for v ≤ k < K. What came before the violation is neither praised nor blamed; the violation and
 *             everything built on it is. The terminal reward is p, so that a method that reads only rewards still sees a failure.
 *   terminal  R = p for the whole trajectory, discounted by the caller as any terminal reward.
 *   off       nothing changes; violations are still recorded and counted.
 */
export const PenaltyPolicy = z.strictObject({
  mode: z.enum(["off", "chunk", "terminal"]).default("chunk"),
  /** p. Never positive, because a violation must not be rewarded. 0 means "not an example at all". */
  penalty: z.number().max(0).default(-1),
  /** Alerts below this are recorded but cost nothing. */
  minSeverity: Severity.default(VIOLATION_SEVERITY),
});
export type PenaltyPolicy = z.infer<typeof PenaltyPolicy>;

export type Penalty =
  | { readonly kind: "unchanged" }
  | {
      readonly kind: "override";
      readonly terminalReward: number;
      /** One return a chunk (mode `chunk`), or null: discount `terminalReward` as usual. */
      readonly chunkReturns: readonly number[] | null;
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

/** The penalty of one trajectory of `chunkCount` chunks. Pure; the alerts may come in any order. */
export function penaltyOf(policy: PenaltyPolicy, alerts: readonly Judged[], chunkCount: number): Penalty {
  const first = policy.mode === "off" ? null : firstViolation(alerts, policy.minSeverity);
  if (first === null) return { kind: "unchanged" };
  // An alert after the last chunk (seen when the episode was wound up) was caused by what the last chunk left behind.
  const violation = Math.max(0, Math.min(first, chunkCount - 1));
  const chunkReturns =
    policy.mode === "chunk"
      ? Array.from({ length: chunkCount }, (_, chunk) => (chunk < violation ? 0 : policy.penalty))
      : null;
  return { kind: "override", terminalReward: policy.penalty, chunkReturns, firstViolation: violation };
}
