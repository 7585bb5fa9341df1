import { AleError } from "@ale/core/result";
import { defaultHome } from "../host/home.ts";
import { findServer } from "../server/lease.ts";
import type { SandboxCreate, SandboxView } from "../wire/schemas.ts";
import { RemoteDriver } from "./remote-driver.ts";
import { RemoteSandbox, specOf } from "./remote-sandbox.ts";
import { serverEvents } from "./server-events.ts";
import { type Call, freshKey, Transport, type TransportOptions } from "./transport.ts";

/** The client of a server of sandboxes. Knows HTTP and nothing of how sandboxes are made. */

export interface ListOptions {
  readonly states?: readonly SandboxView["state"][];
  readonly labels?: Readonly<Record<string, string>>;
  /** Needs the scope admin. */
  readonly allTenants?: boolean;
}

export interface RemoteSandboxes {
  /** Resolves when it runs. The caller owns it: `await using`. Throws why it failed. */
  create(request: SandboxCreate, signal?: AbortSignal): Promise<RemoteSandbox>;
  /** One that is there already; disposing it deletes it. Throws an AleError `sandbox-unknown`. */
  attach(id: string): Promise<RemoteSandbox>;
  get(id: string): Promise<SandboxView>;
  list(options?: ListOptions): Promise<readonly SandboxView[]>;
  /** Ends its processes and keeps its files. */
  stop(id: string): Promise<SandboxView>;
  /** Resolves when a stopped one runs again. */
  restart(id: string, signal?: AbortSignal): Promise<RemoteSandbox>;
  delete(id: string): Promise<SandboxView>;
}

export interface RemoteImage {
  readonly name: string;
  readonly digest: string;
  readonly bytes: number;
  readonly createdAtMs: number | null;
}

export interface RemoteImages {
  list(): Promise<readonly RemoteImage[]>;
  pull(name: string, onProgress?: (message: string) => void, signal?: AbortSignal): Promise<RemoteImage>;
  remove(name: string): Promise<void>;
}

export interface RockClient extends AsyncDisposable {
  readonly sandboxes: RemoteSandboxes;
  readonly images: RemoteImages;
  /** The same server as a driver: whatever works with local sandboxes works with these. */
  readonly driver: RemoteDriver;
  /** For what has no method here: a call below /v1. */
  call<T>(call: Call): Promise<T>;
  /** Destroys what `driver` made, and closes the connections. */
  close(): Promise<void>;
}

export function connectRock(options: TransportOptions): RockClient {
  const transport = new Transport(options);
  const driver = new RemoteDriver(transport);
  const close = async (): Promise<void> => {
    await driver[Symbol.asyncDispose]();
    transport.close();
  };
  return {
    sandboxes: sandboxesOf(transport),
    images: imagesOf(transport),
    driver,
    call: (call) => transport.json(call),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** The server of a home on this machine, as its serve.json says. Throws an AleError `server-missing`. */
export function connectLocal(home: string = defaultHome()): RockClient {
  const served = findServer(home);
  if (served === undefined || served.url === null)
    throw new AleError("server-missing", `no server works on ${home}`, { next: "ale rock serve" });
  const { url, token, ca } = served;
  return connectRock({ url, ...(token === null ? {} : { token }), ...(ca === null ? {} : { ca }) });
}

function sandboxesOf(transport: Transport): RemoteSandboxes {
  const view = (method: Call["method"], path: string): Promise<SandboxView> =>
    transport.json({ method, path: `/sandboxes/${path}` });
  const running = async (first: SandboxView, signal?: AbortSignal): Promise<RemoteSandbox> => {
    let now = first;
    while (now.state === "pending") {
      const query = { waitFor: ["running", "failed", "stopped", "deleted"] };
      now = await transport.json({
        ...withSignal(signal),
        method: "GET",
        path: `/sandboxes/${first.id}`,
        query,
      });
    }
    if (now.state === "running") return new RemoteSandbox(transport, now.id, specOf(now));
    const { code = "start-failed", message = `sandbox ${now.id} is ${now.state}`, next } = now.failure ?? {};
    throw new AleError(code, message, next == null ? {} : { next });
  };
  return {
    create: async (request, signal) => {
      const json = { waitMs: 60_000, ...request };
      const idempotencyKey = freshKey();
      const call: Call = { method: "POST", path: "/sandboxes", json, idempotencyKey, ...withSignal(signal) };
      return running(await transport.json(call), signal);
    },
    attach: async (id) => {
      const found = await view("GET", encodeURIComponent(id));
      return new RemoteSandbox(transport, found.id, specOf(found));
    },
    get: (id) => view("GET", encodeURIComponent(id)),
    list: async ({ states, labels = {}, allTenants } = {}) => {
      const label = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
      const query = { state: states, label, allTenants };
      return (
        await transport.json<{ sandboxes: SandboxView[] }>({ method: "GET", path: "/sandboxes", query })
      ).sandboxes;
    },
    stop: (id) => view("POST", `${encodeURIComponent(id)}/stop`),
    restart: async (id, signal) => running(await view("POST", `${encodeURIComponent(id)}/restart`), signal),
    delete: (id) => view("DELETE", encodeURIComponent(id)),
  };
}

function imagesOf(transport: Transport): RemoteImages {
  return {
    list: async () =>
      (await transport.json<{ images: RemoteImage[] }>({ method: "GET", path: "/images" })).images,
    pull: async (name, onProgress, signal) => {
      const call: Call = { method: "POST", path: "/images/pull", json: { name }, ...withSignal(signal) };
      for await (const { event, data } of serverEvents(await transport.open(call))) {
        if (event === "progress") onProgress?.((data as { message: string }).message);
        if (event === "image") return data as RemoteImage;
      }
      throw new AleError("server-unreachable", `the connection ended while ${name} was pulled`);
    },
    remove: (name) => transport.json({ method: "DELETE", path: "/images", query: { name } }),
  };
}

const withSignal = (signal: AbortSignal | undefined): { signal?: AbortSignal } =>
  signal === undefined ? {} : { signal };
