import { constants } from "node:os";
import { AleError } from "@ale/core";
import { type Killed, type Listener, parseKilled } from "../inside/control.ts";
import { Inflow, Outflow, WINDOW_BYTES } from "../inside/flow.ts";
import type { Process, ProcessExit, Signal, StartRequest, TerminalSize } from "../port/process.ts";
import { gone, type InitClient, refuseNul } from "./init-client.ts";
import { identityField, type Settings } from "./settings.ts";

/** A program that PID 1 runs for us, its streams passed on as they are read. */

/** A program may end long before its output has been read, so that only PID 1 knows whether its deadline was kept. */
const PROBE_AFTER_MS = 5_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface StartOrder {
  readonly request: StartRequest;
  readonly settings: Settings;
  readonly timeoutMs: number;
}

/** Throws an AleError: `exec-failed`, `sandbox-gone`, `argv-empty`. Aborting `signal` ends the program, also later. */
export async function startProcess(
  client: InitClient,
  sandbox: string,
  order: StartOrder,
  signal?: AbortSignal,
): Promise<Process> {
  signal?.throwIfAborted();
  const { argv, tty, stdin } = order.request;
  const { settings, timeoutMs } = order;
  const environment = Object.entries(settings.env).flat();
  if (argv.length === 0) throw new AleError("argv-empty", "start was given no program to run");
  refuseNul([...argv, settings.cwd, ...environment]);
  const size = tty === undefined ? "" : sizeFields(tty).join(" ");
  const input = stdin || tty !== undefined ? "open" : "none";
  const began = Promise.withResolvers<number>();
  const started = new OciProcess(client, began);
  const fields = ["stream", identityField(settings), settings.cwd, timeoutMs, WINDOW_BYTES, input, "", size];
  started.begin([...fields, argv.length, ...argv, ...environment], input === "open");
  const cancel = (): void => client.send("cancel", started.id);
  signal?.addEventListener("abort", cancel, { once: true });
  const timer = setTimeout(() => void client.probe(), Math.min(timeoutMs + PROBE_AFTER_MS, LONGEST_TIMER_MS));
  timer.unref();
  void started.exit.then(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
  });
  try {
    await began.promise;
  } catch (reason) {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
    if (reason instanceof AleError) throw reason;
    throw reason === undefined ? gone(sandbox) : execFailed(argv[0]!, String(reason));
  }
  return started;
}

function execFailed(program: string, why: string): AleError {
  return new AleError("exec-failed", `${program} was not started: ${why}`, {
    next: "check the program's path, the directory and the user, and whether the sandbox is at its process limit",
  });
}

class OciProcess implements Process {
  id = "";
  pid = 0;
  readonly stdout: Inflow;
  readonly stderr: Inflow;
  readonly exit: Promise<ProcessExit>;
  readonly #client: InitClient;
  readonly #input: Outflow;
  readonly #began: PromiseWithResolvers<number>;
  readonly #settle: (exit: ProcessExit) => void;
  #over = false;

  constructor(client: InitClient, began: PromiseWithResolvers<number>) {
    this.#client = client;
    this.#began = began;
    const { promise, resolve } = Promise.withResolvers<ProcessExit>();
    this.exit = promise;
    this.#settle = resolve;
    this.stdout = this.#stream("out");
    this.stderr = this.#stream("err");
    this.#input = new Outflow((bytes, last) => client.send("write", this.id, bytes, last ? 1 : 0));
  }

  begin(fields: readonly (string | number)[], hasInput: boolean): void {
    if (!hasInput) this.#input.deaf();
    this.id = this.#client.converse("run", fields, this.#listener());
  }

  #stream(name: string): Inflow {
    return new Inflow(
      (bytes) => this.#client.send("credit", this.id, name, bytes),
      () => this.#client.send("drop", this.id, name),
    );
  }

  #listener(): Listener {
    return { hear: (type, fields) => this.#hear(type, fields), gone: () => this.#end(GONE, undefined) };
  }

  /** PID 1 is not trusted to be well-behaved: whatever it says, in whatever order, only this process can suffer. */
  #hear(type: string, fields: readonly Buffer[]): boolean {
    const [first, second] = fields;
    const stream = String(first) === "out" ? this.stdout : this.stderr;
    if (type === "out" && second !== undefined) {
      this.#client.container.activity.addOutput(second.length);
      stream.push(second);
    } else if (type === "end") stream.end();
    else if (type === "taken") this.#input.taken(Number(first));
    else if (type === "deaf") this.#input.deaf();
    else if (type === "started") {
      this.pid = Number(first);
      this.#began.resolve(this.pid);
    } else if (type === "fail") this.#end(GONE, String(first));
    else if (type === "exit") this.#end(exitOf(Number(first), parseKilled(second)), undefined);
    return type === "exit" || type === "fail";
  }

  #end(exit: ProcessExit, failure: string | undefined): void {
    this.#over = true;
    this.stdout.end();
    this.stderr.end();
    this.#input.deaf();
    this.#settle(exit);
    this.#began.reject(failure);
  }

  write(data: string | Uint8Array): Promise<void> {
    return this.#input.write(typeof data === "string" ? Buffer.from(data) : data);
  }

  async closeStdin(): Promise<void> {
    this.#input.close();
  }

  async signal(signal: Signal): Promise<void> {
    if (!this.#over) this.#client.send("signal", this.id, constants.signals[signal]);
  }

  async resize(size: TerminalSize): Promise<void> {
    if (!this.#over) this.#client.send("resize", this.id, ...sizeFields(size));
  }
}

const GONE: ProcessExit = { exitCode: null, signal: null, reason: "sandbox-gone" };

/** From a wait(2) status. */
function exitOf(status: number, killed: Killed): ProcessExit {
  const signal = status & 0x7f || null;
  const exitCode = signal === null ? (status >> 8) & 0xff : 128 + signal;
  if (killed === "") return { exitCode, signal, reason: "exited" };
  const reason = killed === "interrupted" ? "cancelled" : killed;
  return { exitCode: null, signal, reason };
}

/** Rows, then columns. Throws an AleError `terminal-size`. */
function sizeFields({ cols, rows }: TerminalSize): [number, number] {
  for (const count of [cols, rows])
    if (!Number.isInteger(count) || count < 1 || count > 65_535)
      throw new AleError("terminal-size", `a terminal of ${cols} columns and ${rows} rows`, {
        next: "use whole numbers from 1 to 65535",
      });
  return [rows, cols];
}
