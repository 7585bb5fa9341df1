import type { Telemetry } from "@ale/core";
import type { EgressPolicy } from "./egress-policy.ts";
import { type ProcessFacts, processOfSocket } from "./process-of-socket.ts";

/** One sandbox at the gateway: its cable, its policy, what it has used. */
export interface Guest {
  readonly sandbox: string;
  /** A process of the sandbox on the host. */
  readonly initPid: number;
  readonly pids: () => readonly number[];
  /** Its own address, as a number. */
  readonly address: number;
  readonly interfaceIndex: number;
  policy: EgressPolicy;
  readonly used: Used;
  /** The same for each host that it has reached. */
  readonly usedByHost: Map<string, Used>;
}

export interface Used {
  bytesUp: number;
  bytesDown: number;
  connections: number;
}

export const nothingUsed = (): Used => ({ bytesUp: 0, bytesDown: 0, connections: 0 });

/** Which budget is used up, if one is. A host has the same as the whole sandbox again. */
export function exhausted(guest: Guest, host: string | undefined): keyof Used | undefined {
  if (guest.policy.mode === "none") return "connections";
  const { budget } = guest.policy;
  const over = (used: Used): keyof Used | undefined =>
    (["bytesUp", "bytesDown", "connections"] as const).find((name) => used[name] >= budget[name]);
  return over(guest.used) ?? (host === undefined ? undefined : over(usedOf(guest, host)));
}

export function usedOf(guest: Guest, host: string): Used {
  const known = guest.usedByHost.get(host) ?? nothingUsed();
  guest.usedByHost.set(host, known);
  return known;
}

export function processOf(
  guest: Guest,
  protocol: "tcp" | "udp",
  localPort: number,
): ProcessFacts | undefined {
  return processOfSocket({ initPid: guest.initPid, pids: guest.pids, protocol, localPort });
}

/** Told of everything that a guest does or tries. */
export type OnRecord = (record: Telemetry) => void;

export function recordOf(
  guest: Guest,
  kind: Telemetry["kind"],
  source: Telemetry["source"],
  facts: Partial<Telemetry>,
): Telemetry {
  return { at: performance.timeOrigin + performance.now(), kind, source, sandbox: guest.sandbox, ...facts };
}
