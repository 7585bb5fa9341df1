/** What the kernel's audit says, whichever way it comes: as a message of its own, or as a line of the kernel's log. */

export interface AuditRecord {
  readonly type: number;
  /** Each event has the next one; records of one event share it. */
  readonly serial: number;
  /** By the wall clock, in milliseconds since the epoch. */
  readonly wallMs: number;
  readonly text: string;
}

/** A system call that a filter refused. */
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

const AUDIT_SECCOMP = 1326;

/** Undefined where the text is no record's. */
export function auditRecord(type: number, text: string): AuditRecord | undefined {
  const stamp = /^audit\((\d+\.\d+):(\d+)\): /.exec(text);
  return stamp === null
    ? undefined
    : { type, serial: Number(stamp[2]), wallMs: Number(stamp[1]) * 1000, text };
}

/** Of a line as /dev/kmsg gives it. Undefined for any other message. */
export function auditOfLog(line: string): AuditRecord | undefined {
  const found = /^\d+,\d+,\d+,[^;]*;audit: type=(\d+) (.*)/s.exec(line);
  return found === null ? undefined : auditRecord(Number(found[1]), found[2]!);
}

/** Undefined for any other record. */
export function deniedOf({ type, wallMs, text }: AuditRecord): DeniedRecord | undefined {
  if (type !== AUDIT_SECCOMP) return undefined;
  const field = (name: string): string => new RegExp(` ${name}=("[^"]*"|\\S+)`).exec(text)?.[1] ?? "";
  const [uid, pid, number] = [Number(field("uid")), Number(field("pid")), Number(field("syscall"))];
  const architecture = Number.parseInt(field("arch"), 16);
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

/** Quoted, or in hexadecimal digits where it holds anything that could be taken for more. */
function untrusted(text: string): string {
  if (text.startsWith('"')) return text.slice(1, -1);
  return /^([0-9A-F]{2})+$/.test(text) ? Buffer.from(text, "hex").toString("utf8") : text;
}

/** How long a number may be missing until its record counts as lost: two processors may hand theirs over in either order. */
const PATIENCE_MS = 100;
const MOST_MISSING = 4_096;

/** Counts records that were lost, by the gaps in their serial numbers. Of whatever type: what is lost does not say what it was. */
export class SerialGaps {
  #highest: number | undefined;
  /** By number, when it was found missing. */
  readonly #missing = new Map<number, number>();
  #lost = 0;

  see(serial: number, nowMs: number): void {
    const highest = this.#highest ?? serial;
    // 32 bits that begin anew after the last.
    const ahead = (serial - highest) | 0;
    if (ahead <= 0) this.#missing.delete(serial);
    else {
      const room = Math.max(0, Math.min(ahead - 1, MOST_MISSING - this.#missing.size));
      this.#lost += ahead - 1 - room;
      for (let back = 1; back <= room; back++) this.#missing.set((serial - back) >>> 0, nowMs);
    }
    if (ahead >= 0) this.#highest = serial;
  }

  /** How many were lost that were not told of yet. */
  take(nowMs: number): number {
    for (const [serial, since] of this.#missing) {
      // The later ones are younger.
      if (nowMs - since < PATIENCE_MS) break;
      this.#missing.delete(serial);
      this.#lost++;
    }
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }
}
