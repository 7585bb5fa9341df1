import { AleError } from "@ale/core";

export function notYet(what: string): AleError {
  return new AleError("not-yet", `${what}: not yet`);
}
