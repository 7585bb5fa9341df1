import {
  type NetworkBudget,
  type NetworkPolicy,
  type Telemetry,
  type TelemetryProcess,
  telemetryNow,
} from "@ale/core";
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
  readonly account: Account;
}

/** What a sandbox has used of its budget. Outlives its cable, so that plugging it in again gives nothing back. */
export interface Account {
  readonly used: Used;
  /** The same for each host that it has reached. */
  readonly byHost: Map<string, Used>;
}

type Used = { [Name in keyof NetworkBudget]: number };

const nothingUsed = (): Used => ({ bytesUp: 0, bytesDown: 0, connections: 0, requests: 0 });

export const newAccount = (): Account => ({ used: nothingUsed(), byHost: new Map() });

/**
 * Takes one connection or request from the budgets of the sandbox and of the host. False where one of them is used up, whichever it is;
 * nothing is taken then. A host has the same as the whole sandbox again.
 */
export function take(guest: Guest, host: string | undefined, what: "connections" | "requests"): boolean {
  if (guest.policy.mode === "none") return false;
  const { budget } = guest.policy;
  const accounts = accountsOf(guest, host);
  if (spent(guest, host) || accounts.some((used) => used[what] >= budget[what])) return false;
  for (const used of accounts) used[what]++;
  return true;
}

/** Counts what has passed. */
export function addBytes(guest: Guest, host: string | undefined, bytesUp: number, bytesDown: number): void {
  for (const used of accountsOf(guest, host)) {
    used.bytesUp += bytesUp;
    used.bytesDown += bytesDown;
  }
}

/** Whether nothing more may pass. */
export function spent(guest: Guest, host: string | undefined): boolean {
  if (guest.policy.mode === "none") return true;
  const { bytesUp, bytesDown } = guest.policy.budget;
  return accountsOf(guest, host).some((used) => used.bytesUp >= bytesUp || used.bytesDown >= bytesDown);
}

function accountsOf({ account }: Guest, host: string | undefined): readonly Used[] {
  if (host === undefined) return [account.used];
  const known = account.byHost.get(host) ?? nothingUsed();
  account.byHost.set(host, known);
  return [account.used, known];
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

/** A policy was replaced by this one. */
export function policyChange(sandbox: string, policy: NetworkPolicy): Telemetry {
  const at = telemetryNow();
  const tool = { name: "network", command: policyText(policy) };
  return { at, kind: "policy.change", source: "proxy", sandbox, tool };
}
