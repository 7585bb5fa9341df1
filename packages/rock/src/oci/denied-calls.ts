import { readFileSync } from "node:fs";
import { CGROUP_PARENT } from "../host/cgroup.ts";
import { callName, DeniedLog, type DeniedRecord } from "../host/denied-calls.ts";
import { fromWallMs } from "../telemetry/clock.ts";
import type { SandboxUsers } from "./sandbox-users.ts";

/** A system call that a sandbox's filter refused: an attempt, whether harmless (a program that asks what the kernel can do) or not. */
export interface DeniedCall {
  /** On the telemetry's clock. */
  readonly at: number;
  readonly sandbox: string;
  /** E.g. "mount". */
  readonly call: string;
  /** Of the host; the process may be gone. */
  readonly pid: number;
  /** As the program named itself: nothing to rely on. */
  readonly command: string;
  readonly executable: string;
  /** Its user, on the host. */
  readonly uid: number;
  /** Refused calls, of whatever sandbox, that the kernel did not write down before this one. */
  readonly lost: number;
}

interface Sandboxed {
  readonly id: string;
  readonly users: SandboxUsers | undefined;
}

/** Tells whoever listens of refused calls of a driver's sandboxes. Owns its reading of the kernel's log, for as long as one listens. */
export class DeniedCalls implements Disposable {
  readonly #sandboxes: () => Iterable<Sandboxed>;
  readonly #listeners = new Set<(call: DeniedCall) => void>();
  #log: DeniedLog | undefined;

  constructor(sandboxes: () => Iterable<Sandboxed>) {
    this.#sandboxes = sandboxes;
  }

  /** Throws where the kernel's log cannot be read. */
  listen(listener: (call: DeniedCall) => void): Disposable {
    this.#log ??= new DeniedLog((record, lost) => this.#tell(record, lost));
    this.#listeners.add(listener);
    return {
      [Symbol.dispose]: () => {
        this.#listeners.delete(listener);
        if (this.#listeners.size === 0) this[Symbol.dispose]();
      },
    };
  }

  /** Resolves when what was refused until now was told. */
  async settled(): Promise<void> {
    await this.#log?.settled();
  }

  [Symbol.dispose](): void {
    this.#log?.[Symbol.dispose]();
    this.#log = undefined;
    this.#listeners.clear();
  }

  #tell(record: DeniedRecord, lost: number): void {
    const sandbox = this.#sandboxOf(record);
    if (sandbox === undefined) return;
    const { pid, uid, command, executable } = record;
    const at = fromWallMs(record.wallMs);
    const call = callName(record.architecture, record.number);
    for (const listener of this.#listeners)
      listener({ at, sandbox, call, pid, uid, command, executable, lost });
  }

  /** By its user, which is no other sandbox's and outlives the process in the record; without users of its own by its group. */
  #sandboxOf({ uid, pid }: DeniedRecord): string | undefined {
    const group = groupOf(pid);
    for (const { id, users } of this.#sandboxes()) {
      if (users === undefined ? id === group : uid >= users.first && uid < users.first + users.size)
        return id;
    }
    return undefined;
  }
}

function groupOf(pid: number): string | undefined {
  try {
    return new RegExp(`/${CGROUP_PARENT}/([^/\n]+)`).exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}
