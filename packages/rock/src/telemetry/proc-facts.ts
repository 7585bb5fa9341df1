import { closeSync, openSync, readFileSync, readlinkSync, readSync, statSync } from "node:fs";
import type { TelemetryProcess } from "@ale/core";
import { fromMonotonicMs, monotonicMs } from "./clock.ts";
import {
  ARGUMENT_BYTES,
  ancestorText,
  type CommandLine,
  commandFields,
  commandLine,
} from "./command-line.ts";

/** What /proc of the host says of a process, where the sandbox cannot write. Everything is undefined of one that is gone. */

const TICKS_PER_SECOND = 100;
const MAX_ANCESTORS = 16;

/** Of the group of processes that a thread belongs to. */
export interface ProcStat {
  readonly parent: number;
  /** Its start as the kernel has it: clock ticks since boot. */
  readonly ticks: number;
  /** On the telemetry's clock; as exact as the kernel's ticks, 10 ms. */
  readonly startedAt: number;
}

export function statOf(pid: number): ProcStat | undefined {
  const text = textOf(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // The name may hold spaces and parentheses; fields are counted from the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [parent, ticks] = [Number(fields[1]), Number(fields[19])];
  if (!Number.isInteger(parent) || !Number.isInteger(ticks)) return undefined;
  return { parent, ticks, startedAt: fromMonotonicMs((ticks * 1000) / TICKS_PER_SECOND - sleptMs()) };
}

/**
 * A process that lives, with its ancestors inside the sandbox. Those of a process whose parent has ended are not its true ones: it was handed
 * to PID 1. `initPid`: the sandbox's PID 1 on the host; without it, it is recognised by the number it has inside.
 */
export function livingProcess(pid: number, initPid?: number): TelemetryProcess {
  const own = statOf(pid);
  const ancestors: { readonly pid: number; readonly startedAt: number }[] = [];
  let next = own?.parent ?? 0;
  while (next > 1 && ancestors.length < MAX_ANCESTORS) {
    if (initPid === undefined ? innerPidOf(next) === 1 : next === initPid) break;
    const stat = statOf(next);
    if (stat === undefined) break;
    ancestors.push({ pid: next, startedAt: stat.startedAt });
    next = stat.parent;
  }
  const [uid, exe] = [uidOf(pid), exeOf(pid)];
  return {
    pid,
    ...(uid === undefined ? {} : { uid }),
    ...(exe === undefined ? {} : { exe }),
    ...commandFields(commandOf(pid), exe),
    ancestry: ancestors.map((one) => ancestorText(commandOf(one.pid)) ?? ""),
    ...(own === undefined ? {} : { startedAt: own.startedAt, lineage: ancestors }),
  };
}

/** Processes' times count those in which the machine slept; ours do not. Unless it did, that is nothing. */
function sleptMs(): number {
  const up = Number(textOf("/proc/uptime")?.split(" ")[0]) * 1000;
  const slept = up - monotonicMs();
  return Number.isFinite(slept) && slept > 100 ? slept : 0;
}

/** Those that it has now: it may have written others over them. */
export function commandOf(pid: number): CommandLine | undefined {
  // One byte more shows whether there are more.
  const buffer = Buffer.alloc(ARGUMENT_BYTES + 1);
  let fd: number | undefined;
  try {
    fd = openSync(`/proc/${pid}/cmdline`, "r");
    const length = readSync(fd, buffer);
    return commandLine(buffer.subarray(0, Math.min(length, ARGUMENT_BYTES)), length > ARGUMENT_BYTES);
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

export function exeOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return undefined;
  }
}

export function uidOf(pid: number): number | undefined {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;
}

/** The last part of its control group's path, where that is a sandbox's. */
export function sandboxOf(pid: number): string | undefined {
  return /\/ale\/([^/\n]+)$/m.exec(textOf(`/proc/${pid}/cgroup`) ?? "")?.[1];
}

/** The process that a thread belongs to. */
export function leaderOf(task: number): number | undefined {
  const leader = Number(/^Tgid:\s+(\d+)$/m.exec(textOf(`/proc/${task}/status`) ?? "")?.[1]);
  return Number.isInteger(leader) ? leader : undefined;
}

/** It lives and has no number but the host's: it is in no sandbox. */
export function isOutside(pid: number): boolean {
  return /^NSpid:\s+\d+$/m.test(textOf(`/proc/${pid}/status`) ?? "");
}

/** The number it has in its own namespace. */
export function innerPidOf(pid: number): number | undefined {
  const numbers = /^NSpid:\s+(.*)$/m.exec(textOf(`/proc/${pid}/status`) ?? "")?.[1];
  const last = Number(numbers?.trim().split(/\s+/).at(-1));
  return Number.isInteger(last) ? last : undefined;
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
