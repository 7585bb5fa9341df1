import { open, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { sha256 } from "./canonical-json.ts";
import type { Event } from "./event.ts";
import { CHAIN_START, type ChainState, decodeLine, type LineFault, type LogEntry } from "./log-line.ts";
import { AleError } from "./result.ts";

/**
 * Reading episode logs. Every reader checks the whole chain on its way, so nothing that was changed after it was written is ever
 * trained on or shown as true. A torn last line is not an error for a reader: the log may be growing.
 */
export interface EpisodeLog {
  readonly path: string;
  readonly entries: readonly LogEntry[];
  /** The events of `entries` that this version knows, in order; what `trajectoryOf` takes. */
  readonly events: readonly Event[];
  /** Hash of the last whole line; 64 zeros when there is none. */
  readonly head: string;
  readonly sealed: boolean;
  /** Bytes after the last newline: a line being written, or torn by a crash. */
  readonly tornBytes: number;
}

/** The first broken line. `line` counts from 1. */
export interface LogFault {
  readonly line: number;
  readonly reason: LineFault;
  readonly detail: string;
}

export type Verification =
  | { readonly ok: true; readonly events: number; readonly head: string; readonly sealed: boolean }
  | ({ readonly ok: false; readonly events: number; readonly head: string } & LogFault);

/** Everything that can be said of a log's bytes: the sound beginning, and the first fault if there is one. */
export interface LogScan {
  readonly log: EpisodeLog;
  readonly fault: LogFault | null;
  /** Length of the sound whole lines. */
  readonly wholeBytes: number;
  readonly torn: Uint8Array;
}

const NEWLINE = 0x0a;
const POLL_MS = 100;

/**
 * Reads and checks one log. Throws an AleError: `log.missing`, `log.version` (written by a newer major version) or
 * `log.damaged` (names the first broken line).
 */
export async function readEpisodeLog(path: string): Promise<EpisodeLog> {
  const { log, fault } = await scanEpisodeLog(path);
  if (fault) throw damagedLog(path, fault);
  return log;
}

/** Checks one log without throwing for anything in it; `log.missing` when there is no such file. */
export async function verifyEpisodeLog(path: string): Promise<Verification> {
  const { log, fault } = await scanEpisodeLog(path);
  const events = log.entries.length;
  if (fault) return { ok: false, events, head: log.head, ...fault };
  if (log.tornBytes > 0) {
    const detail = `${log.tornBytes} bytes without a newline; reopening the log cuts them off`;
    return { ok: false, events, head: log.head, line: events + 1, reason: "torn-tail", detail };
  }
  return { ok: true, events, head: log.head, sealed: log.sealed };
}

/** Reads a file as a log as far as it is sound. */
export async function scanEpisodeLog(path: string): Promise<LogScan> {
  return scanLogBytes(path, await readLogBytes(path));
}

/** Throws `log.missing` and `log.read`. */
export async function readLogBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw missingLog(path, cause);
  }
}

/** The pure part of `scanEpisodeLog`. */
export function scanLogBytes(path: string, bytes: Uint8Array): LogScan {
  const entries: LogEntry[] = [];
  let chain: ChainState = CHAIN_START;
  let start = 0;
  let fault: LogFault | null = null;
  for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
    const line = decodeLine(bytes.subarray(start, end), chain);
    if (!line.ok) {
      fault = { line: entries.length + 1, reason: line.reason, detail: line.detail };
      break;
    }
    entries.push(line.entry);
    chain = line.next;
    start = end + 1;
  }
  const torn = fault ? bytes.subarray(0, 0) : bytes.subarray(start);
  if (chain.sealed && torn.length > 0)
    fault = { line: entries.length + 1, reason: "event-after-seal", detail: "bytes follow the seal" };
  const events = entries.flatMap((entry) => (entry.known ? [entry.event] : []));
  const log = { path, entries, events, head: chain.prev, sealed: chain.sealed, tornBytes: torn.length };
  return { log, fault, wholeBytes: start, torn };
}

/** What was known of a log when it was read before. */
export interface KnownLog {
  readonly events: number;
  /** Of its last line then. */
  readonly head: string;
}

/** Why this is not the log that was read before, which may have grown since; null when it is. */
export function notAsRead(log: EpisodeLog, { events, head }: KnownLog): string | null {
  const count = log.entries.length;
  if (count < events)
    return `it has ${count === 0 ? "no lines" : `${count} lines`}, and had ${events} when it was read before: lines were cut off at the end`;
  const now = log.entries[events - 1]?.hash ?? log.head;
  return now === head
    ? null
    : `the hash of line ${events} is ${now.slice(0, 12)}…, and was ${head.slice(0, 12)}… when it was read before`;
}

/**
 * The last hash of a log, if every line has the hash that it says and the one of the line before; null otherwise, also where bytes follow the
 * last newline. Looks at nothing else: two logs of the same last hash are the same to the byte.
 */
export function chainHead(bytes: Uint8Array): string | null {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let prev = CHAIN_START.prev;
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf(NEWLINE, start);
    if (end < 0) return null;
    const line = text.subarray(start, end);
    // The members stand in canonical order: nothing but prev, seq, t and v comes after the hash.
    const at = line.lastIndexOf(HASH_MEMBER);
    const after = at + HASH_MEMBER.length + 64 + 2;
    if (at < 0 || line.toString("latin1", after - 2, after + PREV_MEMBER.length) !== `",${PREV_MEMBER}`)
      return null;
    const from = after + PREV_MEMBER.length;
    if (line.toString("latin1", from, from + 65) !== `${prev}"`) return null;
    const hash = sha256(Buffer.concat([line.subarray(0, at + 1), line.subarray(after)]));
    if (line.toString("latin1", after - 66, after - 2) !== hash) return null;
    prev = hash;
    start = end + 1;
  }
  return prev;
}

const HASH_MEMBER = ',"hash":"';
const PREV_MEMBER = '"prev":"';

/**
 * Follows a growing log from its first line: yields each entry once its line is whole, and ends after the seal or when the signal
 * aborts. Throws like `readEpisodeLog`. Survives a repair, because it never keeps a part of a line.
 */
export async function* tailEpisodeLog(path: string, signal?: AbortSignal): AsyncGenerator<LogEntry, void> {
  const file = await open(path, "r").catch((cause: unknown) => {
    throw missingLog(path, cause);
  });
  try {
    let chain: ChainState = CHAIN_START;
    let offset = 0;
    while (!signal?.aborted) {
      const { size } = await file.stat();
      const buffer = new Uint8Array(Math.max(0, size - offset));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
      let start = 0;
      for (let end = 0; ; start = end + 1) {
        end = buffer.subarray(0, bytesRead).indexOf(NEWLINE, start);
        if (end < 0) break;
        const line = decodeLine(buffer.subarray(start, end), chain);
        if (!line.ok)
          throw damagedLog(path, { line: chain.seq + 1, reason: line.reason, detail: line.detail });
        chain = line.next;
        yield line.entry;
        if (signal?.aborted) return;
      }
      offset += start;
      if (chain.sealed) return;
      if (start === 0) await sleep(POLL_MS, undefined, signal ? { signal } : {}).catch(() => undefined);
    }
  } finally {
    await file.close();
  }
}

export function damagedLog(path: string, fault: LogFault): AleError {
  if (fault.reason === "unknown-version")
    return new AleError("log.version", `${path}, line ${fault.line}: ${fault.detail}`, {
      next: "use the version of ale that wrote this log, or a newer one",
    });
  return new AleError(
    "log.damaged",
    `${path}, line ${fault.line} is broken (${fault.reason}): ${fault.detail}`,
    { next: "the log was changed after it was written: restore it from a copy or set it aside" },
  );
}

function missingLog(path: string, cause: unknown): AleError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT") return new AleError("log.missing", `there is no episode log ${path}`, { cause });
  if (code === "EACCES" || code === "EPERM")
    return new AleError("log.read", `${path} cannot be read: permission denied`, {
      next: "its owner can make it readable for you",
      cause,
    });
  return new AleError("log.read", `${path} cannot be read: ${String(cause)}`, { cause });
}
