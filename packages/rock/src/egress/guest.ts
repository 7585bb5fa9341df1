import { type NetworkPolicy, type Telemetry, type TelemetryProcess, telemetryNow } from "@ale/core";
import type { Account } from "./account.ts";
import type { FakeAddresses } from "./fake-addresses.ts";
import { policyText } from "./policy-text.ts";
import { processOfSocket } from "./process-of-socket.ts";

/** One sandbox at the gateway: its cable, its policy, what it has used. */
export interface Guest {
  readonly sandbox: string;
  /** A process of the sandbox on the host. */
  readonly initPid: number;
  readonly pids: () => readonly number[];
  /** Its own address, as a number. */
  readonly address: number;
  readonly interfaceIndex: number;
  policy: NetworkPolicy;
  /** Its own, so that what others ask for is neither to be seen nor felt here. */
  readonly names: FakeAddresses;
  readonly account: Account;
}

/** `to`: the other end of a TCP connection, where that is known. */
export function processOf(
  guest: Guest,
  protocol: "tcp" | "udp",
  localPort: number,
  to?: { readonly ip: number; readonly port: number },
): TelemetryProcess | undefined {
  const { initPid, pids, address } = guest;
  const connection = to && { localIp: address, localPort, remoteIp: to.ip, remotePort: to.port };
  return processOfSocket({
    initPid,
    pids,
    protocol,
    localPort,
    ...(connection === undefined ? {} : { connection }),
  });
}

/** Told of everything that a guest does or tries. */
export type OnRecord = (record: Telemetry) => void;

export function recordOf(
  guest: Guest,
  kind: Telemetry["kind"],
  source: Telemetry["source"],
  facts: Partial<Telemetry>,
): Telemetry {
  return { at: telemetryNow(), kind, source, sandbox: guest.sandbox, ...facts };
}

/** A policy was replaced by this one. `reset`: and what was used of its budgets was forgotten. */
export function policyChange(sandbox: string, policy: NetworkPolicy, reset = false): Telemetry {
  const at = telemetryNow();
  const command = `${policyText(policy)}${reset ? "; what was used of the budgets is forgotten" : ""}`;
  const tool = { name: "network", command };
  return { at, kind: "policy.change", source: "proxy", sandbox, tool };
}
