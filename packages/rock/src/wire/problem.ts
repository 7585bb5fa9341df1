import { AleError } from "@ale/core";
import { z } from "zod";
import type { FileError } from "../port/files.ts";

/** Errors as they leave over HTTP: RFC 9457 problem details with the code and the advice of an AleError. */

export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    /** The AleError's code. */
    code: z.string(),
    /** What to do next. */
    next: z.string().nullable(),
    /** Which fields of the request were wrong. */
    issues: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .meta({ id: "Problem" });
export type Problem = z.infer<typeof Problem>;

/** Codes that are the caller's to mend are 4xx; everything else is 500. */
const STATUS: Readonly<Record<string, number>> = {
  "request-invalid": 400,
  "id-invalid": 400,
  "label-reserved": 400,
  "argv-empty": 400,
  "nul-in-command": 400,
  "exec-failed": 400,
  "user-unknown": 400,
  "cwd-unknown": 400,
  "token-invalid": 400,
  "reference-invalid": 400,
  "spec-invalid": 400,
  "limits-unenforced": 400,
  "disk-in-memory": 400,
  "terminal-size": 400,
  "range-invalid": 400,
  "fork-count": 400,
  "mapping-cycle": 400,
  "limits-above-host": 400,
  "network-unsupported": 400,
  "network-too-wide": 400,
  "image-name-invalid": 400,
  "bad-archive": 400,
  "unsafe-path": 400,
  "not-a-file": 400,
  "not-a-directory": 400,
  unauthorized: 401,
  forbidden: 403,
  "quota-exceeded": 403,
  "network-refused": 403,
  "image-reserved": 403,
  "sandbox-unknown": 404,
  "snapshot-unknown": 404,
  "session-unknown": 404,
  "image-unknown": 404,
  "image-missing": 404,
  "token-unknown": 404,
  "route-unknown": 404,
  "not-found": 404,
  "platform-missing": 404,
  "approval-unknown": 404,
  "sandbox-not-running": 409,
  "sandbox-not-stopped": 409,
  "sandbox-gone": 409,
  "session-exists": 409,
  "session-closed": 409,
  "id-taken": 409,
  "approval-over": 409,
  "approval-abandoned": 410,
  "idempotency-conflict": 409,
  "image-in-use": 409,
  "image-incomplete": 409,
  "sandbox-busy": 409,
  "sandbox-frozen": 409,
  "sandbox-running": 409,
  "snapshot-foreign": 409,
  "snapshot-in-use": 409,
  exists: 409,
  "not-empty": 409,
  "stdin-closed": 409,
  "request-timeout": 408,
  "body-too-large": 413,
  "too-large": 413,
  "range-not-satisfiable": 416,
  "host-refused": 421,
  "upgrade-required": 426,
  "too-many-requests": 429,
  "too-many-creations": 429,
  "too-many-sessions": 429,
  cancelled: 499,
  "not-durable": 501,
  "not-yet": 501,
  "connect-failed": 502,
  "digest-mismatch": 502,
  "image-invalid": 502,
  "image-pull-failed": 502,
  "media-unsupported": 502,
  "registry-insecure": 502,
  "registry-refused": 502,
  "registry-unauthorised": 502,
  "registry-unknown": 502,
  "registry-unreachable": 502,
  "server-closing": 503,
  "audit-unwritable": 503,
  "at-capacity": 503,
  "driver-closed": 503,
  "ids-exhausted": 503,
  "watch-unavailable": 503,
  "disk-full": 507,
  "sandbox-disk-full": 507,
  "snapshot-budget": 507,
  "state-unwritable": 507,
  "store-unwritable": 507,
};

export const statusOf = (code: string): number => STATUS[code] ?? 500;

export function problemOf(error: AleError, issues?: Problem["issues"]): Problem {
  const status = statusOf(error.code);
  return {
    type: "about:blank",
    title: error.code,
    status,
    detail: error.message,
    code: error.code,
    next: error.next ?? null,
    ...(issues === undefined ? {} : { issues }),
  };
}

/** A file operation's failure as an error with a code of its own. */
export function fileProblem(error: FileError): AleError {
  const { type, path, message } = error;
  return new AleError(type, message ? `${path}: ${message}` : `${path}: ${type.replaceAll("-", " ")}`);
}
