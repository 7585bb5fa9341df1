import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import koffi from "koffi";
import { type AuditRecord, type DeniedRecord, deniedOf, SerialGaps } from "./audit-record.ts";
import { AuditSocket, type AuditStream, KernelLog } from "./audit-streams.ts";

/**
 * System calls that filters refused, as the kernel's audit tells them: from the audit's own messages, which are not limited, else from its log,
 * which is. What was lost on either way is counted.
 */

const EVERY_MS = 20;
/** How long the kernel may take to hand over what it has to say. */
const SETTLE_MS = 10;
/** Records of one look: a program that does nothing but try must not keep its host from everything else. The rest waits, or is counted. */
const MOST_AT_ONCE = 128;
const MOST_ROUNDS = 64;

/** The name of a call, or its number where libseccomp is not there or does not know it. */
export function callName(architecture: number, number: number): string {
  try {
    resolve ??= koffi
      .load("libseccomp.so.2")
      .func("seccomp_syscall_resolve_num_arch", "str", ["uint32", "int"]);
    return resolve(architecture, number) ?? String(number);
  } catch {
    return String(number);
  }
}

let resolve: ((architecture: number, number: number) => string | null) | undefined;

/** Throws where there is none. */
function openStreams(): readonly AuditStream[] {
  const streams: AuditStream[] = [];
  let reason: unknown;
  for (const open of [() => new AuditSocket(), () => new KernelLog()]) {
    try {
      streams.push(open());
    } catch (error) {
      reason = error;
    }
  }
  if (streams.length === 0) throw reason;
  return streams;
}

export interface DeniedTold {
  readonly record: DeniedRecord;
  readonly source: AuditStream["source"];
  /** Records of the audit, refused calls or not, that were lost since the last one that was told. */
  readonly lost: number;
}

/** Reads what comes from now on. Owns its streams and a timer that keeps nobody from ending. */
export class DeniedLog implements Disposable {
  readonly #listener: (told: DeniedTold) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #gaps = new SerialGaps();
  /** The best first. */
  #streams: readonly AuditStream[];

  /** Throws where neither the audit nor the kernel's log can be read. */
  constructor(listener: (told: DeniedTold) => void, streams: readonly AuditStream[] = openStreams()) {
    this.#listener = listener;
    this.#streams = streams;
    this.#timer = setInterval(() => this.#collect(), EVERY_MS).unref();
  }

  /** Resolves when what was refused until now was told. */
  async settled(): Promise<void> {
    // The audit's records wait for a thread of the kernel that hands them over.
    await sleep(SETTLE_MS);
    for (let round = 0; round < MOST_ROUNDS && this.#collect(); round++);
  }

  /** Whether there may be more. */
  #collect(): boolean {
    // The worst first: whatever a line of the log tells, the audit has sent before, if it sends anything.
    const heard = this.#streams.map(() => [] as AuditRecord[]);
    for (let i = this.#streams.length - 1; i >= 0; i--) heard[i] = readFrom(this.#streams[i]!);
    const best = heard.findIndex((records) => records.length > 0);
    if (best < 0) return false;
    for (const useless of this.#streams.slice(best + 1)) useless[Symbol.dispose]();
    this.#streams = this.#streams.slice(0, best + 1);
    const [{ source }, now] = [this.#streams[best]!, performance.now()];
    for (const one of heard[best]!) {
      this.#gaps.see(one.serial, now);
      const record = deniedOf(one);
      if (record !== undefined) this.#listener({ record, source, lost: this.#gaps.take(now) });
    }
    return heard[best]!.length === MOST_AT_ONCE;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const stream of this.#streams) stream[Symbol.dispose]();
    this.#streams = [];
  }
}

function readFrom(stream: AuditStream): AuditRecord[] {
  const records: AuditRecord[] = [];
  while (records.length < MOST_AT_ONCE) {
    const record = stream.next();
    if (record === undefined) break;
    records.push(record);
  }
  return records;
}

/** A program that has one harmless call refused to itself, so many times; prints nothing. */
const TRIAL = `
my ($seccomp, $call, $times) = @ARGV;
my $filter = join '', map { pack 'S C C L', @$_ } [0x20, 0, 0, 0], [0x15, 0, 1, $call], [6, 0, 0, 0x50001], [6, 0, 0, 0x7fff0000];
my $program = pack 'S x6 P', 4, $filter;
syscall($seccomp, 1, 2, $program) == 0 or exit 1;
syscall($call, 0, 0) for 1 .. $times;
`;
/** seccomp and getpriority. */
const TRIAL_CALLS: Readonly<Record<string, readonly [number, number]>> = {
  x64: [317, 140],
  arm64: [277, 141],
};

/** Has a call refused to a program of ours, by default once. Returns the call's number. Throws where that cannot be done. */
export function tryDenied(perl: string, times = 1): number {
  const calls = TRIAL_CALLS[process.arch];
  if (calls === undefined) throw new Error(`no call is known that could be tried on ${process.arch}`);
  execFileSync(perl, ["-e", TRIAL, ...calls.map(String), String(times)]);
  return calls[1];
}

/** The kernel's log takes ten of all limited messages together, and has patience for ten more after so long. */
const LOG_INTERVAL_MS = 5_000;

/** Where a refused call of ours is found. Takes about 20 ms; some seconds where there is the kernel's log alone and others have used it up. */
export async function deniedCallsSource(
  perl: string,
  streams?: readonly AuditStream[],
): Promise<AuditStream["source"] | undefined> {
  let found: AuditStream["source"] | undefined;
  try {
    let number: number | undefined;
    using log = new DeniedLog(({ record, source }) => {
      if (record.number === number && record.command === "perl") found = source;
    }, streams);
    const giveUpAt = performance.now() + LOG_INTERVAL_MS + 1_000;
    do {
      number = tryDenied(perl);
      for (let round = 0; round < 6 && found === undefined; round++) {
        await sleep(EVERY_MS);
        await log.settled();
      }
    } while (found === undefined && performance.now() < giveUpAt && logIsInUse());
  } catch {
    return undefined;
  }
  return found;
}

/** Others had something written just now, and may have used up what is. */
function logIsInUse(): boolean {
  using log = new KernelLog("oldest");
  const since = Date.now() - 2 * LOG_INTERVAL_MS;
  for (let record = log.next(); record !== undefined; record = log.next())
    if (record.wallMs >= since) return true;
  return false;
}
