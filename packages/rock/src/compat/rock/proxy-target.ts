import { AleError } from "@ale/core";

/** Where a call through ROCK's proxy goes, and what of it may pass. Pure. */

/** What is proxied to where no port is named. */
const DEFAULT_PORT = 8080;

export interface Target {
  readonly port: number;
  /** As it was sent, still encoded, with its query; begins with a slash. */
  readonly path: string;
  /** What a redirect to the program's own root must begin with. */
  readonly prefix: string;
}

/**
 * `rest`: what follows `/proxy` in the URL. The port is named in the path (`/port/N/…`), by the header or by the query. Throws an AleError
 * `request-invalid` where it is named twice or cannot be one.
 */
export function targetOf(base: string, rest: string, header: string | undefined): Target {
  const [rawPath = "", query = ""] = split(rest);
  const named = /^\/port\/(\d+)(\/.*)?$/.exec(rawPath);
  const parameters = query.split("&").filter((part) => part !== "");
  const byQuery = parameters.find((part) => part.startsWith("rock_target_port="))?.split("=")[1];
  const sources = [
    ...(named ? ["path"] : []),
    ...(header ? ["header X-ROCK-Target-Port"] : []),
    ...(byQuery ? ["query parameter rock_target_port"] : []),
  ];
  if (sources.length > 1)
    throw invalid(`Cannot specify target port via multiple sources: ${sources.join(", ")}`);
  const port = portOf(named?.[1] ?? header ?? byQuery);
  const kept = parameters.filter((part) => !part.startsWith("rock_target_port=")).join("&");
  const path = (named ? named[2] : rawPath) || "/";
  return {
    port,
    path: kept === "" ? path : `${path}?${kept}`,
    prefix: named ? `${base}/port/${port}` : base,
  };
}

export function portOf(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PORT;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1_024 || port > 65_535) throw invalid(`Port ${text.slice(0, 20)} is not from 1024 to 65535`);
  return port;
}

function split(rest: string): string[] {
  const at = rest.indexOf("?");
  return at < 0 ? [rest, ""] : [rest.slice(0, at), rest.slice(at + 1)];
}

const invalid = (message: string): AleError => new AleError("request-invalid", message);

/** Of this connection alone, or this server's own: its tokens are nothing for a program in a sandbox. */
const NOT_FORWARDED: ReadonlySet<string> = new Set([
  "host",
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "authorization",
  "x-api-key",
  "x-key",
  "xrl-authorization",
  "x-rock-target-port",
]);

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

export const forwarded = (headers: Headers): Record<string, string | string[]> =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      value === undefined || NOT_FORWARDED.has(name.toLowerCase())
        ? []
        : [[name, typeof value === "string" ? value : [...value]]],
    ),
  );

/** A page of a sandbox gets an origin of its own, or it could call this server in the name of whoever looks at it. */
const PAGE_POLICY = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads";

export function answered(headers: Headers, { prefix, port }: Target): Record<string, string | string[]> {
  const passed = forwarded(headers);
  const location = typeof passed.location === "string" ? passed.location : undefined;
  if (location !== undefined) passed.location = rewritten(location, prefix, port);
  return { ...passed, "content-security-policy": PAGE_POLICY };
}

/** A redirect to the program itself leads through the proxy again; any other is left as it is. */
function rewritten(location: string, prefix: string, port: number): string {
  const own = new RegExp(`^https?://(?:127\\.0\\.0\\.1|localhost|sandbox)(?::${port})?(?=/|$)`, "i");
  const path = location.replace(own, "");
  const isOwn = path !== location || (location.startsWith("/") && !location.startsWith("//"));
  return isOwn ? `${prefix}${path === "" ? "/" : path}` : location;
}
