import type { OutsideAlarm } from "./alarm.ts";

/**
 * Where an alarm from outside lands: on the act of a sandbox that caused it, with how sure that is and which others it could have been.
 * The two clocks may disagree; their difference is estimated from all alarms at once. Pure.
 */

/** Something that a sandbox did towards the network, as the episode log has it. */
export interface NetworkAct {
  readonly episode: string;
  /** Null: before the agent began or after it had ended. */
  readonly chunk: number | null;
  readonly callId: string | null;
  /** Milliseconds since the epoch, on the log's clock. */
  readonly at: number;
  /** How long it went on; 0 for a single attempt. */
  readonly durationMs: number;
  readonly protocol: OutsideAlarm["protocol"];
  readonly ip: string | null;
  readonly port: number | null;
  readonly host: string | null;
  /** Of the connection as the outside sees it, where known. */
  readonly fromIp: string | null;
  readonly fromPort: number | null;
  readonly pid: number | null;
  readonly command: string | null;
}

export interface Candidate<A extends NetworkAct = NetworkAct> {
  readonly act: A;
  /** Probability that this act, and no other and nothing unseen, caused the alarm. */
  readonly confidence: number;
  /** Alarm minus act, after the clocks were set by each other; milliseconds. */
  readonly residualMs: number;
}

export interface Landing<A extends NetworkAct = NetworkAct> {
  readonly alarm: OutsideAlarm;
  /** The likeliest first; empty where nothing fits. */
  readonly candidates: readonly Candidate<A>[];
  /** Probability that it was none of them. */
  readonly unexplained: number;
}

export interface ClockSkew {
  /** Their clock minus ours, milliseconds. */
  readonly offsetMs: number;
  /** How far alarms scatter around it (median absolute deviation × 1.48); the floor is what their timestamps resolve. */
  readonly spreadMs: number;
  /** Alarms that agree with it. */
  readonly support: number;
}

export interface LandingOptions {
  /** Largest difference of the clocks that is believed. Default: one hour. */
  readonly maxSkewMs?: number;
  /** Given where the skew is known, e.g. 0 for one host. */
  readonly skew?: ClockSkew;
}

/** The most that clocks are believed to differ. */
export const MAX_SKEW_MS = 3_600_000;
/** Cloud flow logs are stamped by the second. */
const FLOOR_MS = 1_000;
/** What an alarm that no act explains is worth against a perfect match; the smaller, the bolder. */
const UNSEEN = 0.02;

export function landAlarms<A extends NetworkAct>(
  alarms: readonly OutsideAlarm[],
  acts: readonly A[],
  options: LandingOptions = {},
): { readonly skew: ClockSkew; readonly landings: readonly Landing<A>[] } {
  const maxSkewMs = options.maxSkewMs ?? MAX_SKEW_MS;
  const similar = alarms.map((alarm) =>
    acts.flatMap((act) => {
      const likeness = likenessOf(alarm, act);
      return likeness > 0 ? [{ act, likeness }] : [];
    }),
  );
  const skew = options.skew ?? estimateSkew(alarms, similar, maxSkewMs);
  const landings = alarms.map((alarm, i) => land(alarm, similar[i]!, skew));
  return { skew, landings };
}

interface Similar<A extends NetworkAct = NetworkAct> {
  readonly act: A;
  readonly likeness: number;
}

/** Each fact that both sides have multiplies; one that contradicts makes it impossible. 0: cannot be. */
function likenessOf(alarm: OutsideAlarm, act: NetworkAct): number {
  let likeness = 1;
  let evidence = 0;
  const compare = (theirs: unknown, ours: unknown, agrees: number, differs: number): void => {
    if (theirs === null || ours === null) return;
    const same = theirs === ours;
    likeness *= same ? agrees : differs;
    if (same) evidence++;
  };
  compare(alarm.protocol, act.protocol, 1, 0);
  compare(alarm.toIp, act.ip, 8, 0);
  compare(alarm.toPort, act.port, 4, 0);
  compare(alarm.host?.toLowerCase() ?? null, act.host?.toLowerCase() ?? null, 8, 0.1);
  // Address translation may rewrite the source, so that a difference there proves nothing.
  compare(alarm.fromIp, act.fromIp, 2, 0.5);
  compare(alarm.fromPort, act.fromPort, 64, 0.25);
  compare(alarm.pid, act.pid, 64, 0);
  compare(alarm.command, act.command, 16, 0.5);
  // A protocol in common is not yet a reason.
  return evidence - (alarm.protocol !== null && alarm.protocol === act.protocol ? 1 : 0) > 0 ? likeness : 0;
}

/** The difference of clocks that most alarms agree on: a vote of all pairs in bins, then the median within the best bin's neighbourhood. */
function estimateSkew(
  alarms: readonly OutsideAlarm[],
  similar: readonly (readonly Similar[])[],
  maxSkewMs: number,
): ClockSkew {
  const votes = new Map<number, number>();
  const binMs = 2_000;
  for (const [i, alarm] of alarms.entries()) {
    // One alarm has one vote, however many acts resemble it: a scan must not outvote everything else.
    const total = similar[i]!.reduce((sum, { likeness }) => sum + likeness, 0);
    for (const { act, likeness } of similar[i]!) {
      const offset = offsetOf(alarm, act);
      if (Math.abs(offset) > maxSkewMs) continue;
      const bin = Math.round(offset / binMs);
      // Neighbours share, so that a cluster on the border of two bins is one cluster. Nearness to zero breaks ties.
      for (const [near, weight] of [
        [bin - 1, 0.5],
        [bin, 1],
        [bin + 1, 0.5],
      ] as const)
        votes.set(near, (votes.get(near) ?? 0) + (weight * likeness) / total);
    }
  }
  const best = [...votes].sort((a, b) => b[1] - a[1] || Math.abs(a[0]) - Math.abs(b[0]))[0];
  if (best === undefined) return { offsetMs: 0, spreadMs: FLOOR_MS, support: 0 };
  const centre = best[0] * binMs;
  const residuals = alarms.flatMap((alarm, i) => {
    const offsets = similar[i]!.map(({ act }) => offsetOf(alarm, act));
    const near = offsets.filter((offset) => Math.abs(offset - centre) <= 1.5 * binMs);
    return near.length === 0
      ? []
      : [near.reduce((a, b) => (Math.abs(a - centre) <= Math.abs(b - centre) ? a : b))];
  });
  const offsetMs = medianOf(residuals);
  const deviation = medianOf(residuals.map((residual) => Math.abs(residual - offsetMs)));
  return { offsetMs, spreadMs: Math.max(FLOOR_MS, 1.48 * deviation), support: residuals.length };
}

/** Alarm minus act; an act that lasts is met anywhere within it. */
function offsetOf(alarm: OutsideAlarm, act: NetworkAct, skewMs = 0): number {
  const lag = alarm.at - skewMs - act.at;
  if (act.durationMs > 0 && lag > 0) return skewMs + Math.max(0, lag - act.durationMs);
  return skewMs + lag;
}

function land<A extends NetworkAct>(
  alarm: OutsideAlarm,
  similar: readonly Similar<A>[],
  skew: ClockSkew,
): Landing<A> {
  const scored = similar.map(({ act, likeness }) => {
    const residualMs = offsetOf(alarm, act, skew.offsetMs) - skew.offsetMs;
    const score = likeness * Math.exp(-0.5 * (residualMs / skew.spreadMs) ** 2);
    return { act, residualMs, score };
  });
  // What "something that we did not see" is worth grows with how much an alarm says: more facts, more chances to contradict.
  const unseen = UNSEEN * Math.max(1, ...similar.map(({ likeness }) => likeness));
  const total = scored.reduce((sum, { score }) => sum + score, unseen);
  const candidates = scored
    .map(({ act, residualMs, score }): Candidate<A> => ({ act, residualMs, confidence: score / total }))
    .filter(({ confidence }) => confidence >= 0.001)
    .sort((a, b) => b.confidence - a.confidence || Math.abs(a.residualMs) - Math.abs(b.residualMs));
  return { alarm, candidates, unexplained: unseen / total };
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
