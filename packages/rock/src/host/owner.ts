import { existsSync, readFileSync } from "node:fs";

/**
 * Who owns a sandbox: a process, named so that a later process with the same number, or one after a reboot, is never taken for it.
 */

export interface Owner {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks between boot and the process's start. */
  readonly startTime: number;
  readonly bootId: string;
}

let me: Owner | undefined;

export function self(): Owner {
  me ??= { pid: process.pid, startTime: startTimeOf(process.pid) ?? 0, bootId: bootId() };
  return me;
}

export function isAlive(owner: Owner): boolean {
  return owner.bootId === bootId() && startTimeOf(owner.pid) === owner.startTime;
}

function bootId(): string {
  const path = "/proc/sys/kernel/random/boot_id";
  return existsSync(path) ? readFileSync(path, "utf8").trim() : "";
}

/** Undefined where there is no such process, or only its zombie. */
export function startTimeOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name may hold spaces and parentheses; fields are counted from the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

/** The owner as the beginning of a file name; `parseOwnerName` reads it back. */
export const ownerName = (owner: Owner): string =>
  `${owner.bootId.replaceAll("-", "")}-${owner.pid}-${owner.startTime}`;

export function parseOwnerName(name: string): Owner | undefined {
  const match = /^([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})-(\d+)-(\d+)-/.exec(name);
  if (match === null) return undefined;
  const bootId = match.slice(1, 6).join("-");
  return { bootId, pid: Number(match[6]), startTime: Number(match[7]) };
}
