import type { Severity } from "@ale/core";

/** An alarm of somebody else's system, in one shape: a firewall's, an intrusion detector's, a host monitor's. */
export interface OutsideAlarm {
  /** `file:line`, so that a person finds it again. */
  readonly id: string;
  /** Milliseconds since the epoch, on the clock of whoever raised it. */
  readonly at: number;
  readonly source: "suricata" | "falco" | "flow-log" | "generic";
  /** What it says: a signature, a rule, an action. */
  readonly title: string;
  readonly severity: Severity;
  readonly protocol: "tcp" | "udp" | "icmp" | "other" | null;
  readonly fromIp: string | null;
  readonly fromPort: number | null;
  readonly toIp: string | null;
  readonly toPort: number | null;
  /** A host name that it mentions (DNS, TLS SNI, HTTP Host). */
  readonly host: string | null;
  /** On the host, where the system sees processes. */
  readonly pid: number | null;
  readonly command: string | null;
  /** The record as it came. */
  readonly raw: unknown;
}

/** What could not be read, and where. Nothing is dropped silently. */
export interface ImportFault {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

export interface Imported {
  readonly alarms: readonly OutsideAlarm[];
  /** Records that are sound and no alarm: accepted flows, statistics, other event types. */
  readonly skipped: number;
  readonly faults: readonly ImportFault[];
}

/** One record: an alarm, null for one that is none, or why it cannot be read. */
export type ReadRecord = Omit<OutsideAlarm, "id" | "raw"> | null | { readonly fault: string };

export const isFault = (read: ReadRecord): read is { readonly fault: string } =>
  read !== null && "fault" in read;

/** Milliseconds since the epoch of ISO 8601, of seconds, milliseconds, microseconds or nanoseconds since the epoch. */
export function timeOf(value: unknown): number | undefined {
  if (typeof value === "number" || (typeof value === "string" && /^\d+(?:\.\d+)?$/.test(value))) {
    const number = Number(value);
    if (!Number.isFinite(number) || number <= 0) return undefined;
    if (number < 1e11) return number * 1e3;
    if (number < 1e14) return number;
    return number < 1e17 ? number / 1e3 : number / 1e6;
  }
  if (typeof value !== "string") return undefined;
  // Suricata writes +0000, which ECMAScript need not understand.
  const at = Date.parse(value.replace(/([+-]\d\d)(\d\d)$/, "$1:$2"));
  return Number.isNaN(at) ? undefined : at;
}

const PROTOCOLS: Readonly<Record<string, OutsideAlarm["protocol"]>> = {
  "1": "icmp",
  "6": "tcp",
  "17": "udp",
  "58": "icmp",
  icmp: "icmp",
  tcp: "tcp",
  udp: "udp",
};

export function protocolOf(value: unknown): OutsideAlarm["protocol"] {
  if (value === undefined || value === null || value === "-") return null;
  return PROTOCOLS[String(value).toLowerCase()] ?? "other";
}

export function portOf(value: unknown): number | null {
  const port = typeof value === "string" && value !== "" ? Number(value) : value;
  return typeof port === "number" && Number.isInteger(port) && port > 0 && port <= 65_535 ? port : null;
}

export const textOf = (value: unknown): string | null =>
  typeof value === "string" && value !== "" && value !== "-" ? value : null;
