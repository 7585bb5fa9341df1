import { readFileSync } from "node:fs";
import type { DeniedRecord } from "../host/audit-record.ts";
import { CGROUP_PARENT } from "../host/cgroup.ts";
import { callName, DeniedLog, type DeniedTold } from "../host/denied-calls.ts";
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
  readonly source: DeniedTold["source"];
  /** Records of the kernel's audit, refused calls of whatever sandbox or anything else, that were lost before this one. */
  readonly lost: number;
}

interface Sandboxed {
  readonly id: string;
  readonly users: SandboxUsers | undefined;
}

/** Tells whoever listens of refused calls of a driver's sandboxes. Owns its reading of the kernel's audit, for as long as one listens. */
export class DeniedCalls implements Disposable {
  readonly #sandboxes: () => Iterable<Sandboxed>;
  readonly #listeners = new Set<(call: DeniedCall) => void>();
  #log: DeniedLog | undefined;
  /** Not told of yet, because what came since was nobody's of ours. */
  #lost = 0;

  constructor(sandboxes: () => Iterable<Sandboxed>) {
    this.#sandboxes = sandboxes;
  }

  /** Throws where neither the kernel's audit nor its log can be read. */
  listen(listener: (call: DeniedCall) => void): Disposable {
    this.#log ??= new DeniedLog((told) => this.#tell(told));
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

  #tell({ record, source, lost: before }: DeniedTold): void {
    this.#lost += before;
    const sandbox = this.#sandboxOf(record);
    if (sandbox === undefined) return;
    const lost = this.#lost;
    this.#lost = 0;
    const { pid, uid, command, executable } = record;
    const at = fromWallMs(record.wallMs);
    const call = callName(record.architecture, record.number);
    for (const listener of this.#listeners)
      listener({ at, sandbox, call, pid, uid, command, executable, source, lost });
  }

  /** By its user, which is no other sandbox's and outlives the process in the record; without users of its own by its group. */
  #sandboxOf({ uid, pid }: DeniedRecord): string | undefined {
    const all = [...this.#sandboxes()];
    const owner = all.find(({ users }) => users !== undefined && isOf(users, uid));
    const others = all.filter(({ users }) => users === undefined);
    if (owner !== undefined || others.length === 0) return owner?.id;
    const group = groupOf(pid);
    return others.find(({ id }) => id === group)?.id;
  }
}

const isOf = ({ first, size }: SandboxUsers, uid: number): boolean => uid >= first && uid < first + size;

function groupOf(pid: number): string | undefined {
  try {
    return new RegExp(`/${CGROUP_PARENT}/([^/\n]+)`).exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}
