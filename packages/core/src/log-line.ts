import { z } from "zod";
import { canonicalJson, sha256 } from "./canonical-json.ts";
import { Event } from "./event.ts";
import { schemaFault } from "./schema-fault.ts";

/**
 * The line format of an episode log, "ale/log@1". A log is UTF-8 text; a line is what ends in "\n". Each line is the canonical
 * JSON (RFC 8785) of one object:
 *
 *   at     wall time, ISO 8601 in UTC; for people, may jump
 *   event  the payload, see event.ts
 *   hash   SHA-256 (hex) of the canonical JSON of this object without `hash`
 *   prev   `hash` of the line before, 64 zeros in the first line
 *   seq    0, 1, 2, … without gaps
 *   t      milliseconds since the first line on a monotonic clock, to the microsecond
 *   v      1, the major version of this format
 *
 * Because the bytes of a line are determined by its value, any changed byte is found: either the value changed and the hash does
 * not fit, or the text is no longer canonical. Minor versions only add fields and event types; a reader keeps what it does not
 * know. This file encodes and checks single lines and does no I/O.
 */
export const LOG_FORMAT = "ale/log@1";
export const LOG_VERSION = 1;
export const GENESIS = "0".repeat(64);

/** An event of a newer minor version: kept as it was written. */
export interface UnknownEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

interface Envelope {
  readonly seq: number;
  readonly t: number;
  readonly at: string;
  readonly prev: string;
  readonly hash: string;
}

/** One line as read. `event` keeps every field that was written, also those that this version does not know. */
export type LogEntry =
  | (Envelope & { readonly known: true; readonly event: Event })
  | (Envelope & { readonly known: false; readonly event: UnknownEvent });

/** What the next line of a log must continue. */
export interface ChainState {
  readonly seq: number;
  readonly prev: string;
  readonly sealed: boolean;
}

export const CHAIN_START: ChainState = { seq: 0, prev: GENESIS, sealed: false };

export type LineFault =
  | "bad-utf8"
  | "bad-json"
  | "bad-line"
  | "unknown-version"
  | "not-canonical"
  | "bad-hash"
  | "seq-gap"
  | "wrong-prev"
  | "event-after-seal"
  | "bad-event"
  | "bad-seal"
  | "torn-tail";

export type DecodedLine =
  | { readonly ok: true; readonly entry: LogEntry; readonly next: ChainState }
  | { readonly ok: false; readonly reason: LineFault; readonly detail: string };

const Line = z.looseObject({
  v: z.number(),
  seq: z.number().int().nonnegative(),
  t: z.number().nonnegative(),
  at: z.string(),
  prev: z.string().regex(/^[0-9a-f]{64}$/),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  event: z.looseObject({ type: z.string() }),
});

const KNOWN_TYPES: ReadonlySet<string> = new Set(Event.options.map((option) => option.shape.type.value));

/** The text of one line, newline included, and its hash. Throws a TypeError when the event has no JSON form (NaN, function). */
export function encodeLine(
  event: Event | UnknownEvent,
  at: string,
  t: number,
  chain: ChainState,
): { readonly text: string; readonly hash: string } {
  // Members in canonical order, joined by hand so that the event is only walked once.
  const head = `{"at":${JSON.stringify(at)},"event":${canonicalJson(event)}`;
  const tail = `"prev":"${chain.prev}","seq":${chain.seq},"t":${canonicalJson(t)},"v":${LOG_VERSION}}`;
  const hash = sha256(`${head},${tail}`);
  return { text: `${head},"hash":"${hash}",${tail}\n`, hash };
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const fault = (reason: LineFault, detail: string): DecodedLine => ({ ok: false, reason, detail });

/** Checks one line (bytes without the newline) against the chain so far. Never throws. */
export function decodeLine(bytes: Uint8Array, chain: ChainState): DecodedLine {
  let text: string;
  let raw: unknown;
  try {
    text = utf8.decode(bytes);
  } catch {
    return fault("bad-utf8", "the line is not UTF-8");
  }
  try {
    raw = JSON.parse(text);
  } catch {
    return fault("bad-json", "the line is not JSON");
  }
  const version = (raw as { v?: unknown } | null)?.v;
  if (typeof version === "number" && version !== LOG_VERSION)
    return fault(
      "unknown-version",
      `the line is in format version ${version}; this program reads ${LOG_FORMAT}`,
    );
  const parsed = Line.safeParse(raw);
  if (!parsed.success)
    return fault("bad-line", `not a line of an episode log: ${schemaFault(parsed.error, raw)}`);
  const { hash, ...body } = raw as z.infer<typeof Line>;
  const integrity = integrityFault(text, raw, body, hash);
  if (integrity) return integrity;
  if (chain.sealed) return fault("event-after-seal", `a ${body.event.type} follows the seal`);
  if (body.seq !== chain.seq) return fault("seq-gap", `expected seq ${chain.seq}, found ${body.seq}`);
  if (body.prev !== chain.prev) return fault("wrong-prev", `expected prev ${chain.prev}, found ${body.prev}`);
  return decodeEvent({ seq: body.seq, t: body.t, at: body.at, prev: body.prev, hash }, body.event);
}

/** Whether the hash is that of the content and the text the only one that this content can have. */
function integrityFault(text: string, raw: unknown, body: unknown, hash: string): DecodedLine | null {
  try {
    const expected = sha256(canonicalJson(body));
    if (hash !== expected)
      return fault("bad-hash", `the line says ${hash} but its content gives ${expected}`);
    return canonicalJson(raw) === text ? null : fault("not-canonical", "the value is right but not its text");
  } catch (error) {
    // JSON text can say what no writer here writes: 1e999 reads as infinity, and nesting can exceed the stack.
    return fault(
      "not-canonical",
      `it has no canonical form: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function decodeEvent(envelope: Envelope, raw: UnknownEvent): DecodedLine {
  const next = { seq: envelope.seq + 1, prev: envelope.hash, sealed: raw.type === "episode.seal" };
  if (!KNOWN_TYPES.has(raw.type)) return { ok: true, entry: { ...envelope, known: false, event: raw }, next };
  // A known event that does not fit its schema is refused: skipping an alert would make an episode look clean.
  const parsed = Event.safeParse(raw);
  if (!parsed.success)
    return fault("bad-event", `not a sound "${raw.type}": ${schemaFault(parsed.error, raw)}`);
  if (parsed.data.type === "episode.seal" && parsed.data.events !== envelope.seq)
    return fault("bad-seal", `the seal counts ${parsed.data.events} events, the log has ${envelope.seq}`);
  return { ok: true, entry: { ...envelope, known: true, event: withUnknownFields(raw, parsed.data) }, next };
}

/** The parsed value with the fields of the raw one that the schema does not know. */
function withUnknownFields<T>(raw: unknown, parsed: T): T {
  if (typeof parsed !== "object" || parsed === null || typeof raw !== "object" || raw === null) return parsed;
  if (Array.isArray(parsed)) {
    if (typeof parsed[0] !== "object" || !Array.isArray(raw)) return parsed;
    return parsed.map((item, index) => withUnknownFields(raw[index], item)) as T;
  }
  const merged: Record<string, unknown> = { ...raw };
  for (const [key, value] of Object.entries(parsed))
    merged[key] = withUnknownFields((raw as Record<string, unknown>)[key], value);
  return merged as T;
}
