import { createServer as createWeb, type Server } from "node:http";
import { type AddressInfo, connect, createServer, type Server as TcpServer } from "node:net";
import { NetworkPolicy, type Telemetry } from "@ale/core";
import type { Upstream } from "../src/egress/upstream.ts";
import { findTool } from "../src/host/tools.ts";
import type { Sandbox, SandboxSpec } from "../src/index.ts";
import { obstacle, spec } from "./support.ts";

/** For tests of sandboxes' networks: an outside world on loopback, and programs that sandboxes run to reach it. */

/** Why no sandbox can have a network here, or undefined where it can. */
export const networkObstacle: string | undefined =
  obstacle ?? (findTool("nft") === undefined ? "nft is not installed" : undefined);

/** For `describe.skipIf(networkObstacle)`. */
export const networkSuite = (name: string): string =>
  networkObstacle ? `${name} (skipped: ${networkObstacle})` : name;

/** Whatever is dialled is written down, and ends at a web server (port 80) or one that greets first. */
export interface World extends AsyncDisposable {
  readonly upstream: Upstream;
  readonly dialled: readonly string[];
  /** Requests that the web server got, as `METHOD host path`. */
  readonly requests: readonly string[];
  readonly webPort: number;
}

export async function fakeWorld(): Promise<World> {
  const dialled: string[] = [];
  const requests: string[] = [];
  const web = createWeb((request, response) => {
    requests.push(`${request.method} ${request.headers.host} ${request.url}`);
    request.resume();
    request.on("end", () => response.end(`hello from ${request.headers.host}\n`));
  });
  const greeter = createServer((socket) => {
    socket.on("error", () => {});
    socket.write("220 welcome\n");
    socket.pipe(socket);
  });
  const servers = [web, greeter];
  await Promise.all(
    servers.map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
  );
  const portOf = (server: Server | TcpServer): number => (server.address() as AddressInfo).port;
  return {
    dialled,
    requests,
    webPort: portOf(web),
    upstream: {
      resolve: async (name) => (name.startsWith("inside.") ? ["10.1.2.3"] : ["203.0.113.5"]),
      dial: (address, port) => {
        dialled.push(`${address}:${port}`);
        const real = address === "127.0.0.1" || port === 80 ? portOf(web) : portOf(greeter);
        return connect({ host: "127.0.0.1", port: real });
      },
    },
    [Symbol.asyncDispose]: async () => {
      web.closeAllConnections();
      for (const server of servers) server.close();
    },
  };
}

type PolicyInput = Parameters<typeof NetworkPolicy.parse>[0];

export const policy = (input: PolicyInput): NetworkPolicy => NetworkPolicy.parse(input);
export const NONE = policy({ mode: "none" });
/** The names, on the usual ports. */
export const allowing = (...names: string[]): NetworkPolicy =>
  policy({ mode: "allowlist", hosts: names.map((name) => ({ name })) });

export const networkSpec = (network: NetworkPolicy, more: Parameters<typeof spec>[0] = {}): SandboxSpec =>
  spec({ ...more, network });

/** What a GET of `http://host/` says; empty where it fails. */
export async function get(box: Sandbox, host: string, hostHeader = host): Promise<string> {
  const request = `GET / HTTP/1.1\\r\\nHost: ${hostHeader}\\r\\nConnection: close\\r\\n\\r\\n`;
  const script = `exec 3<>/dev/tcp/${host}/80 && printf '${request}' >&3 && cat <&3`;
  const { stdout } = await box.exec({ argv: ["bash", "-c", script], timeoutMs: 15_000 });
  return stdout;
}

/** Its interfaces, loopback left out. */
export async function links(box: Sandbox): Promise<string[]> {
  const { stdout } = await box.exec({ argv: ["cat", "/proc/net/dev"] });
  return [...stdout.matchAll(/^\s*(\w+):/gm)].map(([, name]) => name!).filter((name) => name !== "lo");
}

export const about = (
  records: readonly Telemetry[],
  box: Pick<Sandbox, "id">,
  kind: Telemetry["kind"],
): Telemetry[] => records.filter((record) => record.sandbox === box.id && record.kind === kind);
