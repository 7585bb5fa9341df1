import { open, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
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
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw missingLog(path, cause);
  }
  return scanLogBytes(path, bytes);
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
  if ((cause as NodeJS.ErrnoException).code === "ENOENT")
    return new AleError("log.missing", `there is no episode log ${path}`, { cause });
  return new AleError("log.read", `${path} cannot be read: ${String(cause)}`, { cause });
}
