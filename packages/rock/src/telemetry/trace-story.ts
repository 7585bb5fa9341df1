import type { Telemetry, TelemetryProcess } from "@ale/core";
import { Attempts } from "./attempts.ts";
import { commandLineOf } from "./command-line.ts";
import { type Known, type Proc, ProcessTree } from "./process-tree.ts";
import type { TraceEvent } from "./trace-events.ts";

/** Turns what the kernel's trace says of this host into records of those sandboxes that are followed. Times are on the telemetry's clock. */
export class TraceStory {
  readonly #tree: ProcessTree;
  readonly #attempts = new Attempts();
  readonly #followed = new Set<string>();

  constructor(proc: Proc) {
    this.#tree = new ProcessTree(proc);
  }

  /** `pids`: its processes now, most of which the trace did not see begin. */
  follow(sandbox: string, pids: readonly number[]): void {
    this.#followed.add(sandbox);
    this.#tree.seed(pids);
  }

  forget(sandbox: string): void {
    this.#followed.delete(sandbox);
  }

  clear(): void {
    this.#tree.clear();
    this.#attempts.clear();
    this.#followed.clear();
  }

  sweep(at: number): void {
    this.#tree.sweep(at);
    this.#attempts.sweep(at);
  }

  /** In the order in which they happened. */
  hearAll(events: readonly TraceEvent[], clock: (ns: number) => number): Telemetry[] {
    const lastExec = new Map(
      events.flatMap((one) => (one.type === "exec" ? [[one.task, one] as const] : [])),
    );
    return events.flatMap((event) => {
      const passing = event.type === "exec" && lastExec.get(event.task) !== event;
      return this.#hear(event, clock(event.ns), passing) ?? [];
    });
  }

  #hear(event: TraceEvent, at: number, passing: boolean): Telemetry | undefined {
    const tree = this.#tree;
    switch (event.type) {
      case "fork":
        tree.fork(event.task, event.child, event.thread, at);
        return undefined;
      case "exec": {
        const known = tree.exec(event, passing);
        return this.#record(known, at, "process.exec", {});
      }
      case "exit":
        tree.exit(event.task, event.whole, at);
        return undefined;
      case "attach":
        tree.attach(event.pid, event.group, at);
        return undefined;
      case "connect": {
        const { socket, ip, port } = event;
        const by = tree.find(event.task);
        if (by === undefined) return undefined;
        this.#attempts.begin(socket, { by, at, ip, port, sourcePort: undefined });
        return this.#record(by, at, "net.connect", { net: { protocol: "tcp", ip, port } });
      }
      case "bound":
        this.#attempts.bound(event.socket, event.sourcePort);
        return undefined;
      case "call": {
        const known = tree.find(event.task);
        const { name, arguments: given } = event;
        return this.#record(known, at, "syscall", { syscall: { name, arguments: given } });
      }
      default:
        return event satisfies never;
    }
  }

  #record(
    known: Known | undefined,
    at: number,
    kind: Telemetry["kind"],
    facts: Partial<Telemetry>,
  ): Telemetry | undefined {
    if (known === undefined || !this.#followed.has(known.sandbox)) return undefined;
    if (!this.#tree.isWithin(known)) return undefined;
    const process = this.#tree.describe(known);
    return { at, kind, source: "tracefs", sandbox: known.sandbox, process, ...facts };
  }

  /** One for each sandbox that is followed: whose events were lost, nobody knows. */
  lost(count: number, at: number): Telemetry[] {
    return [...this.#followed].map((sandbox) => ({
      at,
      kind: "process.exec",
      source: "tracefs",
      sandbox,
      suppressed: count,
    }));
  }

  /** A record of another collector, with what the trace knows of its process. */
  complete(record: Telemetry): Telemetry {
    const known = this.#processOf(record);
    if (known === undefined || known.sandbox !== record.sandbox) return record;
    const seen = record.process;
    // The kernel's audit tells a name that the program chose, no command line.
    const command = record.kind === "syscall.denied" ? undefined : commandLineOf(seen);
    this.#tree.learn(known, { exe: seen?.exe, command });
    return { ...record, process: merged(seen, this.#tree.describe(known, command)) };
  }

  #processOf({ process, sandbox, net, at }: Telemetry): Known | undefined {
    if (process !== undefined) return this.#tree.at(process.pid);
    if (sandbox === null || net?.protocol !== "tcp") return undefined;
    const { sourcePort, port, ip } = net;
    return this.#attempts.find({ sandbox, at, sourcePort, port, ip })?.by;
  }
}

/**
 * What was read from the living process says how it calls itself; the trace says when and from whom it came, and under which command line
 * unless the process was over too soon.
 */
const merged = (seen: TelemetryProcess | undefined, traced: TelemetryProcess): TelemetryProcess => ({
  ...traced,
  ...(seen?.uid === undefined ? {} : { uid: seen.uid }),
  ...(seen?.exe === undefined ? {} : { exe: seen.exe }),
});
