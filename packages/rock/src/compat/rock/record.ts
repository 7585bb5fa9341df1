import { AleError } from "@ale/core";
import type { SandboxRecord } from "../../server/record.ts";
import type { RockContext } from "./context.ts";
import { badRequest } from "./envelope.ts";

/** ROCK words it this way, and clients look for the words. */
export function recordOf({ service }: RockContext, tenant: string, id: string): SandboxRecord {
  try {
    return service.get(tenant, id);
  } catch (error) {
    if (error instanceof AleError && error.code === "sandbox-unknown")
      throw badRequest(`Sandbox ${id} not found`);
    throw error;
  }
}
