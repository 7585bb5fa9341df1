import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/**
 * A server on loopback that answers each path as a script says: for what the real engine does not do, such as ignoring
 * `"wait": true`, being busy, or dropping a connection.
 */
export interface Seen {
  readonly path: string;
  readonly body: Record<string, unknown>;
}

export type Script = (seen: Seen, response: ServerResponse, request: IncomingMessage) => void;

export interface ScriptedServer {
  readonly baseUrl: string;
  readonly seen: Seen[];
  close(): Promise<void>;
}

export async function scriptedServer(script: Script): Promise<ScriptedServer> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const text = Buffer.concat(parts).toString();
      const call = { path: request.url!.replace("/api/v1", ""), body: text === "" ? {} : JSON.parse(text) };
      seen.push(call);
      script(call, response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
