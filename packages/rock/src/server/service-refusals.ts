import { AleError } from "@ale/core";
import type { SandboxDriver } from "../port/driver.ts";
import { type DurableDriver, isDurable } from "../port/durable.ts";
import { SANDBOX_ID } from "../wire/bounds.ts";
import type { SandboxRecord } from "./record.ts";

/** What a service refuses, and what it says then. Each throws an AleError or returns what was asked for. */

/** The sandbox that the same request has made already; undefined where it is the first. Throws `idempotency-conflict`. */
export function earlierRequest(
  records: Iterable<SandboxRecord>,
  { idempotency }: { readonly idempotency?: NonNullable<SandboxRecord["idempotency"]> },
): SandboxRecord | undefined {
  if (idempotency === undefined) return undefined;
  const known = [...records].find(({ idempotency: earlier }) => earlier?.key === idempotency.key);
  if (known !== undefined && known.idempotency?.digest !== idempotency.digest)
    throw new AleError("idempotency-conflict", "the idempotency key was used for another request", {
      next: "use a fresh key for each request",
    });
  return known;
}

/** Throws `id-invalid` or `id-taken`. */
export function refuseId(id: string, isTaken: boolean): void {
  if (!SANDBOX_ID.test(id))
    throw new AleError("id-invalid", `${JSON.stringify(id.slice(0, 80))} cannot be a sandbox's id`, {
      next: "use 1 to 63 lower-case letters, digits and hyphens, the first one no hyphen",
    });
  if (isTaken)
    throw new AleError("id-taken", `the id ${id} is taken`, {
      next: "choose another id, or delete the sandbox that has it, which may have failed or stopped",
    });
}

/** Throws `not-durable`. */
export function durable(driver: SandboxDriver, what: string): DurableDriver {
  if (isDurable(driver)) return driver;
  throw new AleError(
    "not-durable",
    `${what}: this server's driver cannot keep the files of a sandbox that stopped`,
    { next: "delete the sandbox instead" },
  );
}

export function notRunning(record: SandboxRecord): AleError {
  const why = record.failure?.message ?? record.endReason;
  return new AleError(
    "sandbox-not-running",
    `sandbox ${record.id} is ${record.state}${why ? ` (${why})` : ""}`,
    { next: record.state === "stopped" ? "restart it" : "create a new sandbox" },
  );
}
