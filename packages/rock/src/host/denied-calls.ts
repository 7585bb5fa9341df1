import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readSync } from "node:fs";
import koffi from "koffi";
import { seekEnd } from "./native.ts";

/**
 * System calls that filters refused, as the kernel tells them in its log (audit records of type 1326). The kernel writes ten messages in five
 * seconds and drops more, and leaves all of them to auditd where that runs: this is a witness of attempts, not a count of them.
 */

export interface DeniedRecord {
  /** By the wall clock, in milliseconds since the epoch. */
  readonly wallMs: number;
  /** Of the host. */
  readonly uid: number;
  readonly pid: number;
  /** As the program named itself: nothing to rely on. */
  readonly command: string;
  readonly executable: string;
  readonly architecture: number;
  readonly number: number;
}

const KMSG = "/dev/kmsg";
/** The kernel cuts records there. */
const RECORD_BYTES = 8192;
const EVERY_MS = 20;
/** How long the kernel may take to write down what it has to say. */
const SETTLE_MS = 10;

/** Undefined for any other record. */
export function parseDenied(record: string): DeniedRecord | undefined {
  if (!/^\d+,\d+,\d+,[^;]*;audit: type=1326 /.test(record)) return undefined;
  const field = (name: string): string => new RegExp(` ${name}=("[^"]*"|\\S+)`).exec(record)?.[1] ?? "";
  const [uid, pid, number] = [Number(field("uid")), Number(field("pid")), Number(field("syscall"))];
  const architecture = Number.parseInt(field("arch"), 16);
  const wallMs = Number(/ audit\((\d+\.\d+):/.exec(record)?.[1]) * 1000;
  if (!Number.isFinite(wallMs)) return undefined;
  if (![uid, pid, number, architecture].every(Number.isInteger)) return undefined;
  return {
    wallMs,
    uid,
    pid,
    number,
    architecture,
    command: untrusted(field("comm")),
    executable: untrusted(field("exe")),
  };
}

/** How many records the kernel says that it did not write; 0 for any other message. */
export function parseLost(record: string): number {
  const found =
    /^\d+,\d+,\d+,[^;]*;(?:kauditd_printk_skb: (\d+) callbacks suppressed|audit: audit_lost=(\d+))/.exec(
      record,
    );
  return found === null ? 0 : Number(found[1] ?? 0);
}

/** Quoted, or in hexadecimal digits where it holds anything that could be taken for more. */
function untrusted(text: string): string {
  if (text.startsWith('"')) return text.slice(1, -1);
  return /^([0-9A-F]{2})+$/.test(text) ? Buffer.from(text, "hex").toString("utf8") : text;
}

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

/** Reads what comes from now on. Owns a descriptor and a timer that keeps nobody from ending. */
export class DeniedLog implements Disposable {
  readonly #listener: (record: DeniedRecord, lost: number) => void;
  readonly #fd: number;
  readonly #timer: NodeJS.Timeout;
  readonly #buffer = Buffer.alloc(RECORD_BYTES);
  /** Records that the kernel did not write, not told of yet. */
  #lost = 0;

  /** `lost`: how many more there were that the kernel did not write. Throws where the kernel's log cannot be read. */
  constructor(listener: (record: DeniedRecord, lost: number) => void) {
    this.#listener = listener;
    this.#fd = openSync(KMSG, constants.O_RDONLY | constants.O_NONBLOCK);
    seekEnd(this.#fd);
    this.#timer = setInterval(() => this.#collect(), EVERY_MS).unref();
  }

  /** Resolves when what was refused until now was told. */
  async settled(): Promise<void> {
    // The audit records wait for a thread of the kernel that writes them to the log.
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    this.#collect();
  }

  #collect(): void {
    for (;;) {
      const text = this.#next();
      if (text === undefined) return;
      this.#lost += parseLost(text);
      const record = parseDenied(text);
      if (record === undefined) continue;
      const lost = this.#lost;
      this.#lost = 0;
      this.#listener(record, lost);
    }
  }

  #next(): string | undefined {
    try {
      return this.#buffer.toString("latin1", 0, readSync(this.#fd, this.#buffer));
    } catch (error) {
      // EPIPE: records were overwritten before they were read; the next read goes on with the oldest there is.
      return (error as NodeJS.ErrnoException).code === "EPIPE" ? "" : undefined;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    closeSync(this.#fd);
  }
}

/** A program that has one harmless call refused to itself; prints nothing. */
const TRIAL = `
my ($seccomp, $call) = @ARGV;
my $filter = join '', map { pack 'S C C L', @$_ } [0x20, 0, 0, 0], [0x15, 0, 1, $call], [6, 0, 0, 0x50001], [6, 0, 0, 0x7fff0000];
my $program = pack 'S x6 P', 4, $filter;
syscall($seccomp, 1, 2, $program) == 0 or exit 1;
syscall($call, 0, 0);
`;
/** seccomp and getpriority. */
const TRIAL_CALLS: Readonly<Record<string, readonly [number, number]>> = {
  x64: [317, 140],
  arm64: [277, 141],
};

/** Whether a refused call of ours is found in the log. Takes about 20 ms. */
export async function deniedCallsAreLogged(perl: string): Promise<boolean> {
  const calls = TRIAL_CALLS[process.arch];
  if (calls === undefined) return false;
  let found = false;
  try {
    using _log = new DeniedLog((record) => {
      found ||= record.number === calls[1] && record.command === "perl";
    });
    execFileSync(perl, ["-e", TRIAL, ...calls.map(String)]);
    for (let round = 0; round < 6 && !found; round++)
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  } catch {
    return false;
  }
  return found;
}
