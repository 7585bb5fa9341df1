import { closeSync } from "node:fs";
import {
  attachRawTracepoint,
  createMap,
  loadRawTracepointProgram,
  PER_CPU_ARRAY,
  QUEUE,
  takeFrom,
} from "../host/bpf.ts";
import { kernelOffsets, type Offsets } from "../host/btf.ts";
import { execProgram, KERNEL_STRUCTURES } from "./exec-program.ts";
import { decodeExec, type ExecFacts, RECORD_BYTES } from "./exec-record.ts";

/**
 * Has the kernel write down the arguments of every program the moment it starts, for those that are over before anybody could read them in
 * /proc. Owns the program and its queue; with its descriptors both are gone.
 */

/** So many programs between two readings; of what comes beyond, the arguments are not known. 5.5 MB. */
const RECORDS = 1024;
const TRACEPOINT = "sched_process_exec";
/** Between what the kernel writes down of a program and its trace of the same, where it is interrupted meanwhile. */
const SAME_NS = 20e6;
/** How long something written down may wait for the trace to be read. */
const KEPT_NS = 5e9;

let offsets: Offsets<keyof typeof KERNEL_STRUCTURES> | undefined;

export class ExecWitness implements Disposable {
  readonly #descriptors: readonly number[];
  readonly #program: number;
  /** What another thread of this process reads with `ExecReader`. */
  readonly queue: number;
  #attached: Disposable | undefined;

  private constructor(descriptors: number[]) {
    const opened = (fd: number): number => {
      descriptors.push(fd);
      return fd;
    };
    const record = { valueBytes: RECORD_BYTES };
    const scratch = opened(createMap({ ...record, type: PER_CPU_ARRAY, keyBytes: 4, entries: 1 }));
    this.queue = opened(createMap({ ...record, type: QUEUE, keyBytes: 0, entries: RECORDS }));
    offsets ??= kernelOffsets(KERNEL_STRUCTURES);
    this.#program = opened(loadRawTracepointProgram(execProgram(offsets, scratch, this.queue)));
    this.#descriptors = descriptors;
  }

  /** Takes some 50 ms the first time, to read how the kernel lays out its structures. Throws where it lets nobody look. */
  static open(): ExecWitness {
    const descriptors: number[] = [];
    try {
      return new ExecWitness(descriptors);
    } catch (error) {
      for (const fd of descriptors) closeSync(fd);
      throw error;
    }
  }

  /** To be called before the trace is switched on: the kernel asks in that order, so that what the trace tells has been written down before. */
  on(): void {
    this.#attached ??= attachRawTracepoint(TRACEPOINT, this.#program);
  }

  off(): void {
    this.#attached?.[Symbol.dispose]();
    this.#attached = undefined;
  }

  [Symbol.dispose](): void {
    this.off();
    for (const fd of this.#descriptors) closeSync(fd);
  }
}

/** Undefined where arguments have to be read from /proc. */
export function openWitness(): ExecWitness | undefined {
  try {
    return ExecWitness.open();
  } catch {
    return undefined;
  }
}

let obstacle: string | null | undefined;

/** Why arguments have to be read from /proc, after the fact; undefined where the kernel hands them over. Found out once a process. */
export function witnessObstacle(): string | undefined {
  if (obstacle === undefined) {
    try {
      ExecWitness.open()[Symbol.dispose]();
      obstacle = null;
    } catch (error) {
      obstacle = whyNot(error);
    }
  }
  return obstacle ?? undefined;
}

function whyNot(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "EPERM" || code === "EACCES")
    return `${message}: CAP_BPF and CAP_PERFMON on the host, and a kernel that is not locked down, are needed`;
  return code === "ENOENT" ? "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)" : message;
}

/** What the kernel has written down, to be found by who it is about and when. */
export class ExecReader {
  readonly #take: ReturnType<typeof takeFrom>;
  readonly #record = Buffer.alloc(RECORD_BYTES);
  readonly #byTask = new Map<number, ExecFacts[]>();

  constructor(queue: number) {
    this.#take = takeFrom(queue);
  }

  read(): void {
    while (this.#take(this.#record)) {
      const facts = decodeExec(this.#record);
      const list = this.#byTask.get(facts.task);
      if (list === undefined) this.#byTask.set(facts.task, [facts]);
      else list.push(facts);
    }
  }

  /** Of the program that a thread has become at that time; undefined where nothing was written down. */
  take(task: number, ns: number): ExecFacts | undefined {
    const list = this.#byTask.get(task) ?? [];
    const later = list.findIndex((one) => one.ns > ns);
    const before = list.splice(0, later < 0 ? list.length : later);
    if (list.length === 0) this.#byTask.delete(task);
    const last = before.at(-1);
    return last !== undefined && ns - last.ns < SAME_NS ? last : undefined;
  }

  /** Forgets what nobody asked for in time. */
  sweep(now: number): void {
    for (const [task, list] of this.#byTask)
      if (list.every(({ ns }) => ns < now - KEPT_NS)) this.#byTask.delete(task);
  }
}
