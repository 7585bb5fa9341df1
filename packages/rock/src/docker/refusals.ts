import { AleError } from "@ale/core";
import { unenforceable } from "./open-engine.ts";

/** Why a sandbox is not made. */

/** What an engine's refusal means. */
export function explained(reason: unknown, id: string): unknown {
  if (!(reason instanceof AleError)) return reason;
  if (/name.*already in use/i.test(reason.message)) return taken(id);
  if (/storage-opt|StorageOpt|quota/i.test(reason.message)) return unenforceable(["disk"]);
  if (/seccomp profile/i.test(reason.message)) return unenforceable(["seccomp"]);
  return reason;
}

export function badId(id: string): AleError {
  return new AleError("id-invalid", `${JSON.stringify(id.slice(0, 80))} cannot be the id of a sandbox`, {
    next: "use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit",
  });
}

export function taken(id: string): AleError {
  return new AleError("id-taken", `there is a sandbox ${id} already`, {
    next: "choose another id, or destroy that sandbox first",
  });
}

export function oneIdForAll(): AleError {
  return new AleError("id-invalid", "the sandboxes of a pool cannot all have one id", {
    next: "leave `id` out of the pool's spec",
  });
}
