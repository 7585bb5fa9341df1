import type { Alert } from "@ale/core";

/**
 * What alerts of one attempt have in common: the tool call that set it going. Two alerts of one episode with the same key are one incident:
 * what the call says, the programs that it starts, the connections that are refused them, also much later.
 */
export function causeKey(alert: Alert): string {
  const { cause, flow } = alert.evidence;
  if (typeof cause === "string") return cause;
  return keyOf(alert.chunk, alert.callId ?? (typeof flow === "string" ? flow : ""));
}

/** `by`: the call; where no call is known, the connection. */
export const keyOf = (chunk: number, by: string): string => `${chunk}/${by}`;
