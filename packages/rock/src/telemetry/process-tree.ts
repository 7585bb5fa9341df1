import type { TelemetryProcess } from "@ale/core";
import { ancestorText, type CommandLine, commandFields } from "./command-line.ts";
import { executableOf } from "./exec-record.ts";
import type { ProcStat } from "./proc-facts.ts";
import type { TraceEvent } from "./trace-events.ts";

/**
 * Which process of which sandbox came from which, as the kernel told of each birth: known also when parents are gone and their children
 * were handed to PID 1. All times are on the telemetry's clock. Reads nothing by itself: what it asks /proc comes in through `Proc`.
 */

export interface Proc {
  stat(pid: number): ProcStat | undefined;
  command(pid: number): CommandLine | undefined;
  exe(pid: number): string | undefined;
  uid(pid: number): number | undefined;
  sandbox(pid: number): string | undefined;
  innerPid(pid: number): number | undefined;
  leader(task: number): number | undefined;
  /** It has no number but the host's. */
  outside(pid: number): boolean;
}

export interface Known {
  readonly pid: number;
  readonly sandbox: string;
  startedAt: number;
  /** It was there before we looked, so that its start is known to 10 ms. */
  approximate: boolean;
  exe: string | undefined;
  /** Undefined as long as no more than its path is known. */
  command: CommandLine | undefined;
  uid: number | undefined;
  /** How many PID namespaces it is in, below the host's, and its number in the innermost; undefined where nobody told. */
  level: number | undefined;
  innerPid: number | undefined;
  /** The nearest first; where there are too many, those in the middle are missing. */
  ancestors: readonly Known[];
  endedAt: number | undefined;
}

/** Kept of each end of a long line of ancestors: what did it, and what a tool call began. */
const NEAREST = 8;
const OLDEST = 8;
/** How long one that has ended is still known by its number. */
const REMEMBERED_MS = 15_000;
const GROUP = /\/ale\/([^/]+)$/;
const TICK_MS = 20;

export class ProcessTree {
  readonly #proc: Proc;
  readonly #tasks = new Map<number, Known>();
  readonly #ended: Known[] = [];
  /** PID 1 of each sandbox; undefined until it is looked for. */
  readonly #inits = new Map<string, Known>();

  constructor(proc: Proc) {
    this.#proc = proc;
  }

  get size(): number {
    return this.#tasks.size;
  }

  clear(): void {
    this.#tasks.clear();
    this.#ended.length = 0;
    this.#inits.clear();
  }

  /** One that lives or ended a moment ago. */
  at(task: number): Known | undefined {
    return this.#tasks.get(task);
  }

  /** The same, looked for in /proc where no birth was told: it was lost, or was before our time. */
  find(task: number): Known | undefined {
    return this.#tasks.get(task) ?? this.#adopt(task);
  }

  attach(pid: number, group: string, at: number): void {
    const sandbox = GROUP.exec(group)?.[1];
    if (sandbox === undefined || this.#tasks.get(pid)?.sandbox === sandbox) return;
    this.#enter(fresh(pid, sandbox, at, []));
    this.#inits.delete(sandbox);
  }

  fork(parent: number, child: number, thread: boolean, at: number): void {
    const from = this.#tasks.get(parent);
    const before = this.#tasks.get(child);
    if (from === undefined) {
      // Another process has the number now.
      if (before !== undefined && before.startedAt < at - TICK_MS) this.#tasks.delete(child);
      return;
    }
    if (thread) {
      this.#tasks.set(child, from);
      return;
    }
    if (before?.approximate === true && Math.abs(before.startedAt - at) <= TICK_MS) {
      before.startedAt = at;
      before.approximate = false;
      before.ancestors = lineOf(from);
      return;
    }
    // Too low for one that begins a PID namespace: that is the sandbox's PID 1, which becomes a program before it has children.
    const { exe, command, uid, level } = from;
    this.#enter({ ...fresh(child, from.sandbox, at, lineOf(from)), exe, command, uid, level });
  }

  /**
   * What has become another program, with its new name. `passing`: it is yet another one by now, so that /proc tells of that. Undefined where it
   * is nobody's of ours.
   */
  exec(event: TraceEvent & { readonly type: "exec" }, passing: boolean): Known | undefined {
    const { task, before, path, facts } = event;
    // What the rest of the host starts is no reason to read about it.
    const outside = facts?.level === 0;
    const known =
      this.#tasks.get(task) ?? this.#tasks.get(before) ?? (outside ? undefined : this.#adopt(task));
    if (known === undefined) return undefined;
    if (before !== task) this.#tasks.delete(before);
    this.#tasks.set(task, known);
    const { pid } = known;
    // Whoever tells, tells of the program that it was then; in /proc there may be another one by now, and it may call itself what it likes.
    known.command = facts?.command ?? (passing ? undefined : this.#proc.command(pid));
    const told = executableOf(path, facts?.path);
    // What is executed by descriptor or by a relative name says little; what runs then says more.
    known.exe = told ?? (passing ? path : (this.#proc.exe(pid) ?? path));
    known.uid = facts?.uid ?? this.#proc.uid(pid) ?? known.uid;
    known.level = facts?.level ?? known.level;
    known.innerPid = facts?.innerPid ?? known.innerPid;
    return known;
  }

  exit(task: number, whole: boolean | undefined, at: number): void {
    const known = this.#tasks.get(task);
    if (known === undefined) return;
    if (whole ?? known.pid === task) this.#end(known, at);
    if (known.pid !== task) this.#tasks.delete(task);
  }

  #end(known: Known, at: number): void {
    if (known.endedAt !== undefined) return;
    known.endedAt = at;
    this.#ended.push(known);
  }

  /** Forgets those that ended long ago. */
  sweep(at: number): void {
    while (this.#ended[0] !== undefined && this.#ended[0].endedAt! < at - REMEMBERED_MS) {
      const { pid } = this.#ended[0];
      if (this.#tasks.get(pid) === this.#ended[0]) this.#tasks.delete(pid);
      this.#ended.shift();
    }
  }

  /** Takes in processes that were there before their births could be told. */
  seed(pids: readonly number[]): void {
    for (const pid of pids) this.find(pid);
  }

  /** The command line of one that was too fast for us, as somebody else read it, or as it can be read now if it still lives. */
  learn(
    known: Known,
    seen: { readonly exe?: string | undefined; readonly command?: CommandLine | undefined },
  ): void {
    if (known.command !== undefined) return;
    // Who looked earlier may have seen another program under this number.
    if (seen.exe === known.exe) known.command = seen.command;
    const lives = known.endedAt === undefined && this.#proc.exe(known.pid) === known.exe;
    if (lives) known.command ??= this.#proc.command(known.pid);
  }

  /** With what is known of its ancestors inside the sandbox; PID 1 is none. `command`: where no better one is known. */
  describe(known: Known, command?: CommandLine): TelemetryProcess {
    const { pid, uid, exe, startedAt } = known;
    const ancestors = this.#within(known);
    return {
      pid,
      ...(uid === undefined ? {} : { uid }),
      ...(exe === undefined ? {} : { exe }),
      ...commandFields(known.command ?? command, exe),
      ancestry: ancestors.map((one) => ancestorText(one.command) ?? one.exe ?? String(one.pid)),
      startedAt,
      lineage: ancestors.map((one) => ({ pid: one.pid, startedAt: one.startedAt })),
    };
  }

  /** Whether it is a program of the sandbox: not its PID 1, and not the runtime that makes it. */
  isWithin(known: Known): boolean {
    const init = this.#initOf(known);
    if (init !== undefined) return known.ancestors.includes(init);
    return known.level === undefined ? !this.#proc.outside(known.pid) : known.level > 0;
  }

  #within(known: Known): readonly Known[] {
    const init = this.#initOf(known);
    const end = init === undefined ? -1 : known.ancestors.indexOf(init);
    return end < 0 ? known.ancestors.filter((one) => one !== init) : known.ancestors.slice(0, end);
  }

  #initOf(known: Known): Known | undefined {
    const remembered = this.#inits.get(known.sandbox);
    if (remembered !== undefined) return remembered;
    const found = [known, ...known.ancestors].find(
      ({ pid, innerPid }) => (innerPid ?? this.#proc.innerPid(pid)) === 1,
    );
    if (found !== undefined) this.#inits.set(known.sandbox, found);
    return found;
  }

  #adopt(task: number): Known | undefined {
    const sandbox = this.#proc.sandbox(task);
    const leader = sandbox === undefined ? undefined : this.#proc.leader(task);
    if (leader !== undefined && leader !== task) {
      const whole = this.find(leader);
      if (whole !== undefined) this.#tasks.set(task, whole);
      return whole;
    }
    const stat = sandbox === undefined ? undefined : this.#proc.stat(task);
    if (sandbox === undefined || stat === undefined) return undefined;
    const parent = stat.parent > 1 ? this.find(stat.parent) : undefined;
    const line = parent?.sandbox === sandbox ? lineOf(parent) : [];
    const known = fresh(task, sandbox, stat.startedAt, line);
    known.approximate = true;
    known.command = this.#proc.command(task);
    known.exe = this.#proc.exe(task);
    known.uid = this.#proc.uid(task);
    this.#enter(known);
    return known;
  }

  #enter(known: Known): void {
    this.#tasks.set(known.pid, known);
  }
}

function fresh(pid: number, sandbox: string, startedAt: number, ancestors: readonly Known[]): Known {
  const unknown = {
    exe: undefined,
    command: undefined,
    uid: undefined,
    level: undefined,
    innerPid: undefined,
  };
  return { pid, sandbox, startedAt, approximate: false, ancestors, endedAt: undefined, ...unknown };
}

function lineOf(parent: Known): readonly Known[] {
  const { ancestors } = parent;
  if (ancestors.length < NEAREST + OLDEST) return [parent, ...ancestors];
  return [parent, ...ancestors.slice(0, NEAREST - 1), ...ancestors.slice(-OLDEST)];
}
