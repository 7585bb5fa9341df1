import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { AleError } from "@ale/core";
import { z } from "zod";
import { type Authenticator, type Caller, Scope } from "./caller.ts";

/** Tokens in a file that only the server's user can read. The tokens themselves are not in it: their SHA-256 is. */

export const TenantName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "1 to 63 lower-case letters, digits, dots, hyphens, underscores");

const StoredToken = z.object({
  id: z.string(),
  tenant: TenantName,
  scopes: z.array(Scope).min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  createdAtMs: z.number(),
  expiresAtMs: z.number().nullable(),
});
export type StoredToken = z.infer<typeof StoredToken>;

const TokenFile = z.object({ schema: z.literal("ale/rock-tokens@1"), tokens: z.array(StoredToken) });

export interface NewToken {
  readonly tenant: string;
  readonly scopes: readonly Scope[];
  readonly expiresAtMs?: number;
}

const PREFIX = "ale_";
export const newToken = (): string => `${PREFIX}${randomBytes(32).toString("base64url")}`;
const digestOf = (token: string): Buffer => createHash("sha256").update(token).digest();

export class TokenStore implements Authenticator {
  readonly #path: string;
  #tokens: readonly StoredToken[] = [];
  /** Of the file that was read: every change makes another one, and times alone are too coarse. */
  #version = "";

  /** Throws an AleError `tokens-unreadable` where the file is not what it should be, or others can read it. */
  constructor(path: string) {
    this.#path = path;
    this.#read();
  }

  /** Tokens changed by another process (`ale rock token`) count at once. */
  authenticate(token: string | undefined): Caller | undefined {
    if (token === undefined || !token.startsWith(PREFIX) || token.length > 200) return undefined;
    this.#read();
    const digest = digestOf(token);
    // Every stored token is compared, each in constant time: how long it takes says nothing of which one was close.
    let found: StoredToken | undefined;
    for (const stored of this.#tokens)
      if (timingSafeEqual(Buffer.from(stored.sha256, "hex"), digest)) found = stored;
    if (found === undefined || (found.expiresAtMs !== null && found.expiresAtMs <= Date.now()))
      return undefined;
    return { tenant: found.tenant, tokenId: found.id, scopes: found.scopes };
  }

  list(): readonly Omit<StoredToken, "sha256">[] {
    this.#read();
    return this.#tokens.map(({ sha256, ...shown }) => shown);
  }

  /** The token itself is returned here and never again. */
  create(request: NewToken): { readonly id: string; readonly token: string } {
    this.#read();
    const token = newToken();
    const stored = StoredToken.safeParse({
      id: `tok-${randomBytes(6).toString("hex")}`,
      tenant: request.tenant,
      scopes: request.scopes,
      sha256: digestOf(token).toString("hex"),
      createdAtMs: Date.now(),
      expiresAtMs: request.expiresAtMs ?? null,
    });
    if (!stored.success)
      throw new AleError("token-invalid", z.prettifyError(stored.error), {
        next: "name a tenant of lower-case letters and at least one scope",
      });
    this.#write([...this.#tokens, stored.data]);
    return { id: stored.data.id, token };
  }

  /** Throws an AleError `token-unknown`. */
  revoke(id: string): void {
    this.#read();
    const rest = this.#tokens.filter((token) => token.id !== id);
    if (rest.length === this.#tokens.length)
      throw new AleError("token-unknown", `there is no token ${id}`, { next: "list the tokens" });
    this.#write(rest);
  }

  #read(): void {
    if (!existsSync(this.#path)) {
      this.#tokens = [];
      return;
    }
    const { mode, mtimeMs, ino, size } = statSync(this.#path);
    const version = `${ino} ${size} ${mtimeMs}`;
    if ((mode & 0o077) !== 0)
      throw new AleError("tokens-unreadable", `${this.#path} can be read by others`, {
        next: `chmod 600 ${this.#path}, and replace its tokens`,
      });
    if (version === this.#version) return;
    const file = TokenFile.safeParse(parsed(readFileSync(this.#path, "utf8")));
    if (!file.success)
      throw new AleError("tokens-unreadable", `${this.#path} is damaged: ${z.prettifyError(file.error)}`, {
        next: "restore it, or move it away and create new tokens",
      });
    this.#tokens = file.data.tokens;
    this.#version = version;
  }

  #write(tokens: readonly StoredToken[]): void {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    const text = JSON.stringify({ schema: "ale/rock-tokens@1", tokens }, null, 2);
    writeFileSync(`${this.#path}.new`, text, { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    this.#version = "";
    this.#read();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** One more token, known to this process alone; any other is asked of `rest`. */
export function oneToken(token: string, caller: Caller, rest: Authenticator): Authenticator {
  const digest = digestOf(token);
  return {
    authenticate: (sent) =>
      sent !== undefined && timingSafeEqual(digestOf(sent), digest) ? caller : rest.authenticate(sent),
  };
}

/** As which the audit names a call without a token that is allowed all the same. */
export const NO_TOKEN = "none";

/** Known tokens are who they are; calls without a token are `fallback`. A wrong token is still refused. */
export const withFallback = (store: Authenticator, fallback: Caller): Authenticator => ({
  authenticate: (token) => (token === undefined ? fallback : store.authenticate(token)),
});
