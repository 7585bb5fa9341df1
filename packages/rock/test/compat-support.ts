import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compatApis } from "../src/compat/apis.ts";
import type { GemRegistry } from "../src/compat/gem/registry.ts";
import type { RockOptions } from "../src/compat/rock/context.ts";
import type { SandboxDriver } from "../src/index.ts";
import { createApp } from "../src/server/app.ts";
import { AuditLog } from "../src/server/audit.ts";
import { SCOPES } from "../src/server/caller.ts";
import { SandboxService, type SandboxServiceOptions } from "../src/server/service.ts";

/** A real server with every compatible API, on loopback. Token "t-a" is tenant a's, "t-b" tenant b's. */

export interface CompatServer extends AsyncDisposable {
  readonly url: string;
  readonly service: SandboxService;
}

export interface CompatServerOptions extends RockOptions {
  readonly driver: SandboxDriver;
  readonly service?: Partial<SandboxServiceOptions>;
  readonly registry?: GemRegistry;
}

export async function compatServer(options: CompatServerOptions): Promise<CompatServer> {
  const { driver, service: more, registry, ...rock } = options;
  const directory = mkdtempSync(join(tmpdir(), "ale-compat-"));
  const service = await SandboxService.open({ driver, directory: join(directory, "sandboxes"), ...more });
  const audit = new AuditLog(join(directory, "audit"));
  const closing = new AbortController();
  const app = await createApp({
    service,
    audit,
    auth: {
      authenticate: (token) =>
        token === "t-a" || token === "t-b"
          ? { tenant: token.slice(2), tokenId: token, scopes: SCOPES.filter((scope) => scope !== "admin") }
          : undefined,
    },
    plugins: compatApis({ home: directory, ...rock, ...(registry && { environments: registry }) }),
    closing: closing.signal,
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  const { port } = app.server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    service,
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await app.close();
      await service[Symbol.asyncDispose]();
      audit.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Calls a route as tenant a, or with another token; `null`: none. */
export async function call(
  url: string,
  path: string,
  body?: unknown,
  token: string | null = "t-a",
): Promise<{ readonly status: number; readonly body: unknown }> {
  const answer = await fetch(`${url}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return { status: answer.status, body: text === "" ? undefined : JSON.parse(text) };
}
