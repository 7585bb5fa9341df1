import type { ShellStart } from "../inside/control.ts";
import type { ProcessStart } from "../telemetry/collector.ts";
import { innerPidOf, statOf } from "../telemetry/proc-facts.ts";

/**
 * The shells that a sandbox's PID 1 has started for sessions, by their numbers on the host. A program cannot pass for one: PID 1 alone says
 * which they are, and they are its children with the number and the start that it says. Those that have ended are remembered, because what
 * they left in the background still descends from them.
 */

const REMEMBERED = 256;

export class SessionShells {
  readonly #pids: () => readonly number[];
  #known: readonly ProcessStart[] = [];

  /** `pids`: the sandbox's processes on the host, now. */
  constructor(pids: () => readonly number[]) {
    this.#pids = pids;
  }

  get all(): readonly ProcessStart[] {
    return this.#known;
  }

  /** One that is gone before it is looked for ran nothing but the command with which it began: it need not be told from that. */
  add({ pid, ticks }: ShellStart): void {
    for (const candidate of this.#pids()) {
      const stat = statOf(candidate);
      if (stat?.ticks !== ticks || innerPidOf(candidate) !== pid || innerPidOf(stat.parent) !== 1) continue;
      const shell = { pid: candidate, startedAt: stat.startedAt };
      this.#known = [...this.#known, shell].slice(-REMEMBERED);
      return;
    }
  }
}
