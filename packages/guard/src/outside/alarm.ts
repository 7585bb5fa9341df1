import { parseIp, type Severity } from "@ale/core";

/** An alarm of somebody else's system, in one shape: a firewall's, an intrusion detector's, a host monitor's. */
export interface OutsideAlarm {
  /** `file:line`, with the number of the array's element and of the flow in it where a line has several; so that a person finds it again. */
  readonly id: string;
  /** Milliseconds since the epoch, on the clock of whoever raised it. */
  readonly at: number;
  /** How long what it tells of went on, for records of an interval; 0 for a moment. */
  readonly durationMs: number;
  readonly source: "suricata" | "falco" | "flow-log" | "generic";
  /** Whose clock it is: a sensor's name, a host, a network interface. */
  readonly sensor: string | null;
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
  /** Name or path of the program. */
  readonly program: string | null;
  readonly command: string | null;
  /** A file that it is about. */
  readonly path: string | null;
  /** What it calls the container: id, name, pod. */
  readonly containers: readonly string[];
  /** The record as it came; of a record with many flows, the one. */
  readonly raw: unknown;
}

/** What could not be read, and where. Nothing is dropped silently. */
export interface ImportFault {
  readonly file: string;
  readonly line: number;
  /** Bytes from the beginning, uncompressed. */
  readonly offset: number;
  /** Which element of an array, from 1. */
  readonly element?: number;
  readonly message: string;
}

/** What a record says: an alarm, why it is sound and none, or why it cannot be read. */
export type ReadRecord =
  | (Omit<OutsideAlarm, "id" | "raw"> & { readonly raw?: unknown })
  | { readonly skip: string }
  | { readonly fault: string };

export const isFault = (read: ReadRecord): read is { readonly fault: string } => "fault" in read;
export const isSkip = (read: ReadRecord): read is { readonly skip: string } => "skip" in read;

/** What an alarm says that a record does not have. */
export const NOTHING = {
  durationMs: 0,
  sensor: null,
  protocol: null,
  fromIp: null,
  fromPort: null,
  toIp: null,
  toPort: null,
  host: null,
  pid: null,
  program: null,
  command: null,
  path: null,
  containers: [],
} as const;

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
  "ipv6-icmp": "icmp",
  t: "tcp",
  tcp: "tcp",
  u: "udp",
  udp: "udp",
};

export function protocolOf(value: unknown): OutsideAlarm["protocol"] {
  if (value === undefined || value === null || value === "-" || value === "") return null;
  return PROTOCOLS[String(value).toLowerCase()] ?? "other";
}

/** An address as everybody writes it: Suricata writes all groups of IPv6. What is none stays as it is. */
export function addressOf(value: unknown): string | null {
  const text = textOf(value);
  if (text === null || !text.includes(":")) return text;
  const address = parseIp(text);
  if (address === undefined) return text;
  if (address.v6) return new URL(`http://[${text}]/`).hostname.slice(1, -1);
  return [24n, 16n, 8n, 0n].map((shift) => (address.bits >> shift) & 0xffn).join(".");
}

export function portOf(value: unknown): number | null {
  const port = typeof value === "string" && value !== "" ? Number(value) : value;
  return typeof port === "number" && Number.isInteger(port) && port > 0 && port <= 65_535 ? port : null;
}

export function pidOf(value: unknown): number | null {
  const pid = Number(value);
  return Number.isInteger(pid) && pid > 0 ? pid : null;
}

/** Falco writes `<NA>` for what it does not know, flow logs `-`. */
export const textOf = (value: unknown): string | null =>
  typeof value === "string" && value !== "" && value !== "-" && value !== "<NA>" ? value : null;
