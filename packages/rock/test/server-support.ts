import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Limits } from "@ale/core";
import { BASE_IMAGE } from "../src/index.ts";
import { findServer } from "../src/server/lease.ts";
import { type RockServer, type ServeOptions, serveRock } from "../src/server/serve.ts";
import { driver, freshHome } from "./support.ts";

export interface TestServer extends AsyncDisposable {
  readonly server: RockServer;
  readonly home: string;
  /** The local administrator's. */
  readonly token: string;
  call(method: string, path: string, body?: unknown, more?: CallOptions): Promise<Answer>;
}

export interface CallOptions {
  readonly token?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: what came over the wire is what a test looks at
  readonly body: any;
}

/** A server on a port of its own, with the shared driver of the test file unless another one is given. */
export async function testServer(options: Partial<ServeOptions> = {}): Promise<TestServer> {
  const home = await freshHome();
  mkdirSync(join(home.path, "rock"), { recursive: true });
  const server = await serveRock({ home: home.path, port: 0, driver: await driver(), ...options });
  const token = findServer(home.path)!.token!;
  return {
    server,
    home: home.path,
    token,
    call: (method, path, body, more = {}) => call(server.url, token, method, path, body, more),
    [Symbol.asyncDispose]: async () => {
      await server.close();
      home[Symbol.dispose]();
    },
  };
}

async function call(
  url: string,
  ownToken: string,
  method: string,
  path: string,
  body: unknown,
  { token = ownToken, headers = {} }: CallOptions,
): Promise<Answer> {
  const raw = body instanceof Uint8Array;
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined
        ? {}
        : { "content-type": raw ? "application/octet-stream" : "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: raw ? Buffer.from(body) : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json") ?? false;
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: isJson && text !== "" ? JSON.parse(text) : undefined,
  };
}

export const create = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  image: BASE_IMAGE,
  workdir: "/work",
  limits: Limits.parse({ execTimeoutMs: 20_000 }),
  waitMs: 20_000,
  ...more,
});

/** A running sandbox's id. */
export async function created(server: TestServer, more: Record<string, unknown> = {}): Promise<string> {
  const { status, body } = await server.call("POST", "/v1/sandboxes", create(more));
  if (status !== 201 || body.state !== "running") throw new Error(JSON.stringify(body));
  return body.id;
}
