import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { Telemetry } from "@ale/core";
import { monotonicOffsetMs } from "./clock.ts";
import type { Collector, CollectorKind, Observed, Tell } from "./collector.ts";
import { type ExecWitness, openWitness } from "./exec-witness.ts";
import { TraceInstance } from "./tracefs.ts";
import type { FromTracer, ToTracer, TracerSetup } from "./tracer-messages.ts";

/**
 * The kernel's trace as a collector: programs that start, connections that are asked for, system calls that deserve a look, and who came
 * from whom. The instance is made for the first listener, which takes some 40 ms, and kept switched off between two; it goes with its owner.
 */
export class Tracer implements AsyncDisposable {
  #instance: TraceInstance | undefined;
  #witness: ExecWitness | undefined;
  #worker: TracerThread | undefined;

  get kind(): CollectorKind {
    return { sources: ["tracefs"], start: (tell) => this.#start(tell) };
  }

  /** Programs that a sandbox has started since it is followed; undefined while nothing is traced. */
  started(sandbox: string): number | undefined {
    return this.#worker === undefined ? undefined : (this.#worker.started.get(sandbox) ?? 0);
  }

  #start(tell: Tell): Collector {
    this.#instance ??= TraceInstance.open();
    if (this.#worker === undefined) {
      this.#witness = openWitness();
      this.#worker = new TracerThread(this.#instance, this.#witness?.queue);
    }
    const [instance, witness, worker] = [this.#instance, this.#witness, this.#worker];
    witness?.on();
    instance.on();
    worker.tell = tell;
    worker.send({ type: "on" });
    return {
      follow: ({ id, pids }: Observed) => worker.send({ type: "follow", sandbox: id, pids: pids() }),
      forget: (sandbox) => {
        worker.started.delete(sandbox);
        worker.send({ type: "forget", sandbox });
      },
      drain: () => worker.drain(),
      enrich: (record) => worker.enrich(record),
      [Symbol.dispose]: () => {
        worker.tell = undefined;
        worker.send({ type: "off" });
        instance.off();
        witness?.off();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.end();
    this.#witness?.[Symbol.dispose]();
    await this.#instance?.close();
    this.#worker = undefined;
    this.#witness = undefined;
    this.#instance = undefined;
  }
}

class TracerThread {
  tell: Tell | undefined;
  /** Programs, by sandbox. */
  readonly started = new Map<string, number>();
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #instance: TraceInstance;
  readonly #bell = new Int32Array(new SharedArrayBuffer(4));
  readonly #drains = new Map<number, () => void>();
  readonly #enriching = new Map<number, (record: Telemetry) => void>();
  readonly #asked = new Map<number, Telemetry>();
  readonly #ended = Promise.withResolvers<void>();
  #over = false;
  #next = 0;

  constructor(instance: TraceInstance, queue: number | undefined) {
    const { directory, formats } = instance;
    const { port1, port2 } = new MessageChannel();
    const [bell, offsetMs] = [this.#bell, monotonicOffsetMs()];
    const setup: TracerSetup = { port: port2, directory, formats, queue, bell, offsetMs };
    this.#instance = instance;
    this.#port = port1;
    port1.on("message", (message: FromTracer) => this.#hear(message));
    port1.unref();
    this.#worker = new Worker(new URL("./tracer-worker.ts", import.meta.url), {
      workerData: setup,
      transferList: [port2],
      // What this process was told is not meant for its thread.
      execArgv: [],
    });
    this.#worker.unref();
    // Without the thread nothing more is told by it, and nobody waits for it.
    this.#worker.on("error", () => this.#giveUp());
    this.#worker.on("exit", () => this.#giveUp());
  }

  send(message: ToTracer): void {
    if (this.#over) return;
    this.#port.postMessage(message);
    this.#instance.wake();
    Atomics.add(this.#bell, 0, 1);
    Atomics.notify(this.#bell, 0);
  }

  drain(): Promise<void> {
    if (this.#over) return Promise.resolve();
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#drains.set(id, resolve);
      this.send({ type: "drain", id });
    });
  }

  enrich(record: Telemetry): Promise<Telemetry> {
    if (this.#over) return Promise.resolve(record);
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#enriching.set(id, resolve);
      this.#asked.set(id, record);
      this.send({ type: "enrich", id, record });
    });
  }

  #hear(message: FromTracer): void {
    switch (message.type) {
      case "records":
        for (const record of message.records) {
          if (record.kind === "process.exec") this.#count(record);
          this.tell?.(record);
        }
        return;
      case "drained":
        this.#drains.get(message.id)?.();
        this.#drains.delete(message.id);
        return;
      case "enriched":
        this.#enriching.get(message.id)?.(message.record);
        this.#enriching.delete(message.id);
        this.#asked.delete(message.id);
        return;
      default:
        message satisfies never;
    }
  }

  #count({ sandbox, suppressed = 0, process }: Telemetry): void {
    if (sandbox === null) return;
    const started = suppressed + (process === undefined ? 0 : 1);
    this.started.set(sandbox, (this.started.get(sandbox) ?? 0) + started);
  }

  #giveUp(): void {
    this.#over = true;
    this.#port.close();
    for (const resolve of this.#drains.values()) resolve();
    for (const [id, resolve] of this.#enriching) resolve(this.#asked.get(id)!);
    this.#drains.clear();
    this.#enriching.clear();
    this.#asked.clear();
    this.#ended.resolve();
  }

  async end(): Promise<void> {
    this.#worker.ref();
    this.send({ type: "end" });
    await this.#ended.promise;
  }
}
