import { AleError } from "@ale/core";

/**
 * The form of every answer of ROCK's sandbox API: HTTP 200 and the outcome in the body. A client parses `code` into an enumeration, so
 * no number outside CODES may ever be sent.
 */

export const CODES = { ok: 2000, badRequest: 4000, internal: 5000, command: 6000 } as const;
export type RockCode = (typeof CODES)[keyof typeof CODES];

export interface Envelope {
  readonly status: "Success" | "Failed";
  readonly message: string | null;
  readonly error: string | null;
  readonly result: unknown;
}

/** A failure whose code is known, as opposed to one that `failed` derives from an AleError. */
export class RockFailure extends Error {
  readonly code: RockCode;

  constructor(code: RockCode, message: string) {
    super(message);
    this.name = "RockFailure";
    this.code = code;
  }
}

export const badRequest = (message: string): RockFailure => new RockFailure(CODES.badRequest, message);

export const success = (result: unknown, message: string | null = null): Envelope => ({
  status: "Success",
  message,
  error: null,
  result,
});

/** What a caller sees of an error: `message` is ROCK's name of the operation and "failed". */
export function failed(message: string | null, error: unknown): Envelope {
  const reason = reasonOf(error);
  const result = { code: codeOf(error), exit_code: null, failure_reason: reason };
  return { status: "Failed", message, error: reason, result };
}

/** A request that is not what the route takes. */
export const invalid = (error: string): Envelope => ({
  status: "Failed",
  message: "invalid parameter",
  error,
  result: null,
});

/** Failures of ours that a caller caused and can repair. All others are the server's. */
const CALLERS: ReadonlySet<string> = new Set([
  "sandbox-unknown",
  "sandbox-not-running",
  "sandbox-not-stopped",
  "id-invalid",
  "id-taken",
  "limits-above-host",
  "quota-exceeded",
  "network-refused",
  "network-unsupported",
  "network-too-wide",
  "too-many-creations",
  "image-unknown",
  "image-reference",
  "session-exists",
  "session-unknown",
  "too-many-sessions",
  "user-unknown",
  "snapshot-unknown",
  "connect-failed",
  "exec-failed",
  "not-durable",
]);

export function codeOf(error: unknown): RockCode {
  if (error instanceof RockFailure) return error.code;
  if (error instanceof AleError && CALLERS.has(error.code)) return CODES.badRequest;
  return CODES.internal;
}

export function reasonOf(error: unknown): string {
  if (error instanceof AleError)
    return error.next === undefined ? error.message : `${error.message} (${error.next})`;
  return error instanceof Error ? error.message : String(error);
}
