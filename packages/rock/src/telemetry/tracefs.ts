import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { rmdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { mountDetached } from "../host/fsmount.ts";
import { startTimeOf } from "../host/owner.ts";
import { isRootless } from "../host/rootless.ts";

/**
 * The kernel's tracer, of which we have an instance of our own: buffers, filters and switches that nobody else's tracing sees. Its file system
 * is mounted for this process alone. The instance outlives a crash; its name says whose it was, and the next owner removes it.
 */

/** What is switched on, with a filter that the kernel applies. An event that this kernel lacks is left out. */
const EVENTS: readonly (readonly [event: string, filter?: string])[] = [
  ["task/task_newtask"],
  ["sched/sched_process_exec"],
  ["sched/sched_process_exit"],
  ["cgroup/cgroup_attach_task"],
  // To SYN_SENT in the process that connects; from there on the local port is known, wherever it happens.
  ["sock/inet_sock_set_state", "protocol == 6 && (newstate == 2 || oldstate == 2)"],
  // Attach, seize, "trace me": what a debugger does a thousand times later is left out.
  ["syscalls/sys_enter_ptrace", "request == 0 || request == 16 || request == 16902"],
  ...`memfd_create execveat mount umount2 pivot_root unshare setns bpf init_module finit_module kexec_load perf_event_open
  process_vm_readv process_vm_writev open_by_handle_at userfaultfd io_uring_setup keyctl`
    .split(/\s+/)
    .map((name) => [`syscalls/sys_enter_${name}`] as const),
];
const NECESSARY = EVENTS.slice(0, 5).map(([event]) => event);

/** For all processors together: at some 100 bytes an event this bears 100,000 of them between two readings. */
const BUFFER_KB = 16 * 1024;
const LEAST_BUFFER_KB = 256;
const MOST_BUFFER_KB = 4 * 1024;

const instanceName = (n: number): string => `ale-${process.pid}-${startTimeOf(process.pid) ?? 0}-${n}`;
let instances = 0;

export class TraceInstance {
  /** Below /proc/self/fd: another thread of this process can use it too, another process cannot. */
  readonly directory: string;
  readonly #mount: number;
  readonly #marker: number;
  /** Descriptions of the events that this kernel has, as it words them. */
  readonly formats: readonly string[];

  private constructor(mount: number, directory: string) {
    this.#mount = mount;
    this.directory = directory;
    this.#write("trace_clock", "mono");
    // Who waits is woken by the first event, not by a half full buffer.
    this.#write("buffer_percent", "0");
    const kilobytes = Math.floor(BUFFER_KB / availableParallelism());
    this.#write("buffer_size_kb", String(Math.min(MOST_BUFFER_KB, Math.max(LEAST_BUFFER_KB, kilobytes))));
    const found = EVENTS.filter(([event]) => existsSync(join(directory, "events", event)));
    for (const [event, filter] of found)
      if (filter !== undefined) this.#write(`events/${event}/filter`, filter);
    this.#marker = openSync(join(directory, "trace_marker"), constants.O_WRONLY);
    this.formats = found.map(([event]) => readFileSync(join(directory, "events", event, "format"), "utf8"));
  }

  /** Takes about 40 ms, in which the kernel waits for its readers. Throws where the kernel's tracing cannot be had. */
  static open(): TraceInstance {
    const mount = mountDetached("tracefs");
    try {
      const directory = join(rootOf(mount), "instances", instanceName(instances++));
      mkdirSync(directory);
      return new TraceInstance(mount, directory);
    } catch (error) {
      closeSync(mount);
      throw error;
    }
  }

  /** What was left in the buffers is forgotten. Takes a millisecond. */
  on(): void {
    this.#write("trace", "");
    for (const [event] of EVENTS)
      if (existsSync(join(this.directory, "events", event))) this.#write(`events/${event}/enable`, "1");
  }

  /** Wakes who waits for events: a mark among them, which is none of ours. */
  wake(): void {
    writeSync(this.#marker, ".");
  }

  off(): void {
    this.#write("events/enable", "0");
  }

  #write(file: string, text: string): void {
    writeFileSync(join(this.directory, file), text);
  }

  /** When nobody reads it any more. */
  async close(): Promise<void> {
    closeSync(this.#marker);
    try {
      await rmdir(this.directory);
    } finally {
      closeSync(this.#mount);
    }
  }
}

const rootOf = (mount: number): string => `/proc/self/fd/${mount}`;

/** Opens what is to be read of each processor; the reader closes it. */
export function openPipes(directory: string): number[] {
  const processors = join(directory, "per_cpu");
  return readdirSync(processors).map((cpu) =>
    openSync(join(processors, cpu, "trace_pipe_raw"), constants.O_RDONLY | constants.O_NONBLOCK),
  );
}

/** Why the kernel's tracing cannot be used here; undefined where it can. */
export function tracingObstacle(): string | undefined {
  if (isRootless()) return "the kernel's tracing is root's alone";
  let mount: number;
  try {
    mount = mountDetached("tracefs");
  } catch (error) {
    return `tracefs cannot be mounted: ${error instanceof Error ? error.message : String(error)}`;
  }
  try {
    const missing = NECESSARY.filter((event) => !existsSync(join(rootOf(mount), "events", event)));
    if (missing.length > 0) return `the kernel lacks the trace events ${missing.join(", ")}`;
    return existsSync(join(rootOf(mount), "instances")) ? undefined : "the kernel has no trace instances";
  } finally {
    closeSync(mount);
  }
}

/** Names of the instances whose processes are gone. Empty where the kernel's tracing cannot be seen. */
export function deadTraces(): readonly string[] {
  using instances = openInstances();
  return instances === undefined ? [] : deadIn(instances.directory);
}

/** Removes the instances of processes that are gone; their names. */
export async function reapTraces(): Promise<readonly string[]> {
  using instances = openInstances();
  if (instances === undefined) return [];
  const { directory } = instances;
  const removed = await Promise.all(
    deadIn(directory).map((name) =>
      rmdir(join(directory, name)).then(
        () => [name],
        () => [],
      ),
    ),
  );
  return removed.flat();
}

function openInstances(): ({ readonly directory: string } & Disposable) | undefined {
  let mount: number;
  try {
    mount = mountDetached("tracefs");
  } catch {
    return undefined;
  }
  return { directory: join(rootOf(mount), "instances"), [Symbol.dispose]: () => closeSync(mount) };
}

function deadIn(directory: string): string[] {
  return readdirSync(directory).filter((name) => {
    const match = /^ale-(\d+)-(\d+)-\d+$/.exec(name);
    return match !== null && startTimeOf(Number(match[1])) !== Number(match[2]);
  });
}
