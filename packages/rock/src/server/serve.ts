import type { AddressInfo } from "node:net";
import { isIP } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AleError } from "@ale/core";
import { defaultHome } from "../host/home.ts";
import { openOciDriver } from "../oci/driver.ts";
import type { OciDriverOptions } from "../oci/options.ts";
import type { SandboxDriver } from "../port/driver.ts";
import { type App, type AppLimits, type AppPlugin, createApp } from "./app.ts";
import { type Audit, AuditLog } from "./audit.ts";
import { type Authenticator, type Caller, SCOPES } from "./caller.ts";
import { LOOPBACK_NAMES } from "./host-check.ts";
import type { ImageShelf } from "./images.ts";
import { ServeLease } from "./lease.ts";
import { localShelf } from "./local-shelf.ts";
import { Metrics } from "./metrics.ts";
import { nativeApi } from "./native.ts";
import { DEFAULT_BOUNDS, type NetworkBounds } from "./network-bounds.ts";
import type { HostLimits, Quota } from "./quota.ts";
import { SandboxService, type SandboxServiceOptions } from "./service.ts";
import { NO_TOKEN, newToken, oneToken, TokenStore, withFallback } from "./token-store.ts";

/**
 * A server of sandboxes in this process: driver, service, HTTP. It owns `<home>/rock/serve.json` while it lives, and stops its sandboxes
 * when it ends; their files are kept.
 */

export interface ServeOptions {
  /** Default: $ALE_HOME, else ~/.ale. */
  readonly home?: string;
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** Default: 4180; 0: any free port. */
  readonly port?: number;
  /** PEM texts. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Beyond loopback without TLS, tokens and files cross the network in the clear: only where this is spelled out. */
  readonly insecureHttp?: boolean;
  /** Calls without a token are the tenant's. Only on loopback: every user and program of this machine can then use the server. */
  readonly trustLocal?: { readonly tenant: string };
  /** Limits that need not hold where the host cannot enforce them (see the driver's option). Only without `driver`. */
  readonly unenforced?: readonly ("memory" | "cpu")[];
  /** Default: the OCI driver, with sandboxes whose files outlive the server. */
  readonly driver?: SandboxDriver;
  readonly quota?: (tenant: string) => Quota;
  readonly hostLimits?: HostLimits;
  /** What tenants may ask for. Default: neither the mode `open` nor private addresses. */
  readonly network?: NetworkBounds;
  /** The driver's way out. Only without `driver`. */
  readonly egress?: OciDriverOptions["egress"];
  readonly limits?: Partial<AppLimits>;
  /** Default: with the OCI driver the images of the home; with another one none are offered. */
  readonly images?: ImageShelf;
  readonly ensureImage?: SandboxServiceOptions["ensureImage"];
  /** APIs besides the native one. */
  readonly plugins?: readonly AppPlugin[];
  readonly version?: string;
  /** Ends the server, as `close` does. */
  readonly signal?: AbortSignal;
}

export interface RockServer extends AsyncDisposable {
  readonly url: string;
  readonly app: App;
  readonly service: SandboxService;
  readonly tokens: TokenStore;
  readonly audit: Audit;
  /** The first administrator's token, where this start made one. It is kept nowhere: show it. */
  readonly firstToken: string | undefined;
  /** Stops accepting, ends streams, stops sandboxes, releases the home. Safe to call twice. */
  close(): Promise<void>;
  /** Resolves when it has closed, for whatever reason. */
  readonly closed: Promise<void>;
}

/** How long streams have for their last bytes when the server ends. */
const GRACE_MS = 2_000;

export const tokensFile = (home: string): string => join(home, "rock", "tokens.json");
export const DEFAULT_PORT = 4180;
const LOCAL_TENANT = "local";

/**
 * Throws an AleError: `already-served`, `port-in-use`, `bind-refused` (beyond loopback without a token or TLS), `tokens-unreadable`,
 * `limits-unenforced`, or
 * what the driver throws. On failure nothing is left running.
 */
export async function serveRock(options: ServeOptions = {}): Promise<RockServer> {
  const home = options.home ?? defaultHome();
  const host = options.host ?? "127.0.0.1";
  options.signal?.throwIfAborted();
  await using undo = new AsyncDisposableStack();
  const lease = ServeLease.take(home);
  undo.defer(() => lease.release());
  const tokens = new TokenStore(tokensFile(home));
  refuseUnsafe(host, options, tokens);
  const audit = new AuditLog(join(home, "rock", "audit"));
  undo.defer(() => audit.close());
  const { unenforced = [] } = options;
  const driver =
    options.driver ??
    openOciDriver({ home, durable: "server", unenforced, ...given({ egress: options.egress }) });
  if (options.driver === undefined) {
    undo.use(driver);
    await refuseUseless(driver, unenforced);
  }
  const metrics = new Metrics();
  const service = undo.use(
    await SandboxService.open({
      driver,
      directory: join(home, "rock", "served"),
      onTransition: (record, transition) => metrics.transition(record, transition),
      ...given({
        quota: options.quota,
        host: options.hostLimits,
        network: boundsOf(options),
        ensureImage: options.ensureImage,
      }),
    }),
  );
  const closing = new AbortController();
  const localToken = newToken();
  const version = options.version ?? "0.1.0";
  const images = options.images ?? (options.driver === undefined ? localShelf(home) : undefined);
  const parts = { audit, metrics, tokens, version, ...given({ images }) };
  const app = await createApp({
    service,
    audit,
    metrics,
    auth: authenticator(tokens, localToken, options.trustLocal?.tenant),
    plugins: [nativeApi(parts), ...(options.plugins ?? [])],
    closing: closing.signal,
    ...given({ tls: options.tls, limits: options.limits }),
    ...(isLoopback(host) ? { hosts: LOOPBACK_NAMES } : {}),
  });
  undo.defer(() => shutDown(app, closing));
  const url = await listen(app, host, options.port ?? DEFAULT_PORT, options.tls !== undefined);
  const firstToken =
    tokens.list().length > 0 ? undefined : tokens.create({ tenant: LOCAL_TENANT, scopes: ["admin"] }).token;
  lease.publish({ url, token: localToken, ca: options.tls?.cert ?? null });
  const owned = undo.move();
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  let closingDown: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closingDown ??= owned.disposeAsync().finally(resolve);
    return closingDown;
  };
  options.signal?.addEventListener("abort", () => void close(), { once: true });
  if (options.signal?.aborted) await close();
  return { url, app, service, tokens, audit, firstToken, close, closed, [Symbol.asyncDispose]: close };
}

/** Before it has a port or a token: said with the first sandbox it would be said too late. */
async function refuseUseless(driver: SandboxDriver, given: readonly string[]): Promise<void> {
  const { enforces } = await driver.capabilities();
  const missing = (["memory", "cpu"] as const).filter((name) => !enforces[name] && !given.includes(name));
  if (missing.length === 0) return;
  throw new AleError(
    "limits-unenforced",
    `limits of ${missing.join(" and ")} cannot be enforced here, so that no sandbox would start`,
    {
      next: `serve as root, or do without them: --without-limit ${missing.join(",")} (option \`unenforced\`)`,
    },
  );
}

/** The home's tokens, the one of serve.json, and, where that was asked for, no token at all. */
function authenticator(tokens: TokenStore, local: string, trusted: string | undefined): Authenticator {
  const caller = (tenant: string, tokenId: string): Caller => ({ tenant, tokenId, scopes: SCOPES });
  const known = oneToken(local, caller(LOCAL_TENANT, "local"), tokens);
  return trusted === undefined ? known : withFallback(known, caller(trusted, NO_TOKEN));
}

const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));

/** A driver that somebody else made knows itself whether it has a model gateway. */
const boundsOf = ({ network = DEFAULT_BOUNDS, driver, egress }: ServeOptions): NetworkBounds =>
  driver === undefined ? { ...network, modelGateway: egress?.modelGateway !== undefined } : network;

function refuseUnsafe(host: string, options: ServeOptions, tokens: TokenStore): void {
  if (isLoopback(host)) return;
  const refuse = (why: string, next: string): never => {
    throw new AleError("bind-refused", `${host} can be reached from other machines, ${why}`, { next });
  };
  if (options.trustLocal !== undefined)
    refuse("and calls without a token are trusted on loopback only", "listen on 127.0.0.1");
  if (tokens.list().length === 0)
    refuse("and there is no token yet", "create one first: ale rock token create");
  if (options.tls === undefined && options.insecureHttp !== true)
    refuse(
      "and without TLS tokens and files cross the network in the clear",
      "give a key and a certificate (--tls-key, --tls-cert), or spell out --insecure-http",
    );
}

async function listen(app: App, host: string, port: number, tls: boolean): Promise<string> {
  try {
    await app.listen({ host, port });
  } catch (cause) {
    throw listenError(cause as NodeJS.ErrnoException, host, port);
  }
  const address = app.server.address() as AddressInfo;
  const name = host.includes(":") ? `[${host}]` : host;
  return `${tls ? "https" : "http"}://${name}:${address.port}`;
}

function listenError(cause: NodeJS.ErrnoException, host: string, port: number): unknown {
  const { code } = cause;
  if (code === "EADDRINUSE")
    return new AleError("port-in-use", `port ${port} of ${host} is in use`, {
      cause,
      next: `end what listens there (ss -ltnp 'sport = :${port}'), or choose another port`,
    });
  if (code === "EACCES")
    return new AleError("port-refused", `port ${port} of ${host} needs privileges`, {
      cause,
      next: "choose a port above 1023",
    });
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return new AleError("address-unknown", `${host} is no address of this machine`, {
      cause,
      next: "use 127.0.0.1, or an address that ip addr shows",
    });
  return cause;
}

/** Serves nothing more, lets streams say their last words, and then cuts what still hangs on. */
async function shutDown(app: App, closing: AbortController): Promise<void> {
  closing.abort(new AleError("server-closing", "the server is shutting down", { next: "try again later" }));
  const sockets = [...app.websocketServer.clients];
  const said = Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve))));
  await Promise.race([said, sleep(GRACE_MS, undefined, { ref: false })]);
  for (const socket of sockets) socket.terminate();
  const cut = setTimeout(() => app.server.closeAllConnections(), GRACE_MS);
  await app.close();
  clearTimeout(cut);
}

/** Without what is undefined: options are absent or there, never both. */
function given<T extends object>(options: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}
