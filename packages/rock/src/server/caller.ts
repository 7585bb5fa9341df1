import { z } from "zod";

/** Who calls, and what a token allows. */

export const SCOPES = ["sandbox:read", "sandbox:write", "exec", "files", "image", "admin"] as const;

/**
 * `sandbox:read`: see sandboxes, snapshots and counters. `sandbox:write`: create, stop, delete, snapshot, fork. `exec`: programs, shells,
 * ports. `files`: read and write files. `image`: pull and remove images. `admin`: everything, tokens and metrics of all tenants included.
 */
export const Scope = z.enum(SCOPES);
export type Scope = z.infer<typeof Scope>;

export interface Caller {
  readonly tenant: string;
  readonly tokenId: string;
  readonly scopes: readonly Scope[];
}

export interface Authenticator {
  /** undefined where the token is unknown or has expired. `token` undefined: none was sent. */
  authenticate(token: string | undefined): Caller | undefined;
}

export const allows = (caller: Caller, scope: Scope): boolean =>
  caller.scopes.includes("admin") || caller.scopes.includes(scope);
