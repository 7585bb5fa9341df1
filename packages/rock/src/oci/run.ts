import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { ControlChannel } from "../inside/control.ts";
import { initProgram } from "../inside/init.ts";
import type { Launched } from "./launcher.ts";

/** One life of a sandbox's processes, from its PID 1's first word to its last process's end. A sandbox may have several, one after another. */

/** How long PID 1 may take to follow its closed control channel before it is killed. */
const POLITE_EXIT_MS = 500;

export class Run {
  readonly control: ControlChannel;
  readonly #launched: Launched;
  readonly #log: string;
  #connection: Socket | undefined;
  #configured = false;
  #exited = false;

  /** `log`: what the runtime and PID 1 say on stderr. `start`: what PID 1 is told with the first request. */
  constructor(launched: Launched, log: string, start: readonly string[]) {
    this.control = new ControlChannel(() => [
      ["start", ...start],
      ["load", ...initProgram()],
    ]);
    this.#launched = launched;
    this.#log = log;
    void launched.exited.then(() => {
      this.#exited = true;
      this.control.close();
    });
  }

  get exited(): Promise<void> {
    return this.#launched.exited;
  }

  /** Lets the runtime go on with this configuration, and hears PID 1. Throws an AleError if it ended instead. */
  async start(configuration: string): Promise<void> {
    this.#configured = true;
    this.#launched.configure(configuration);
    const connection = await this.#launched.connection;
    if (connection !== null) {
      this.#connection = connection;
      this.control.attach(connection);
    }
    // A runtime may share the container's control groups, and is not the sandbox's.
    if (connection !== null && (await this.control.ready)) return this.#launched.begun;
    await Promise.race([this.#launched.exited, sleep(POLITE_EXIT_MS)]);
    throw new AleError("sandbox-start-failed", `the container did not start: ${this.#complaint()}`, {
      next: "run `./ale doctor`",
    });
  }

  #complaint(): string {
    try {
      const text = readFileSync(this.#log, "utf8").slice(0, 4096).trim();
      return text === "" ? "it said nothing" : text;
    } catch {
      return "it left no message";
    }
  }

  /** PID 1 ends with its control channel, and with PID 1 everything in its namespace. `kill` is for one that does not. */
  async end(kill: () => boolean): Promise<void> {
    if (!this.#configured) this.#launched.configure("");
    this.control.close();
    this.#connection?.destroy();
    if (this.#connection === undefined) void this.#launched.connection.then((late) => late?.destroy());
    await Promise.race([this.#launched.exited, sleep(POLITE_EXIT_MS)]);
    for (let round = 0; round < 100 && !this.#exited; round++) {
      if (kill()) this.#launched.kill();
      await Promise.race([this.#launched.exited, sleep(20)]);
    }
  }
}
