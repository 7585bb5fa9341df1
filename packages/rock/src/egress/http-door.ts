import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { exhaustedText } from "./account.ts";
import { hostOf } from "./first-words.ts";
import { BudgetError } from "./metered.ts";
import { refusalText } from "./refused-aloud.ts";

/**
 * Plain HTTP to an allowed name. A connection carries many requests, and a content network would serve each to another host, so that
 * every single one is compared with the name whose address was used. Bodies are passed on as they come.
 */

export interface HttpVisit {
  readonly host: string;
  /** A fresh connection to where the name leads. */
  readonly wayOut: () => Promise<HttpWayOut>;
  /** A request names another host, or none. */
  readonly onForeign: (claimed: string | null, head: string) => void;
}

export type HttpWayOut =
  | { readonly ok: true; readonly stream: Duplex }
  /** Policy or the network refuses it. `why`: what the program is told; without it the connection is reset. */
  | { readonly ok: false; readonly why?: string | undefined };

/** Headers between two neighbours (RFC 9110 §7.6.1); the rest is passed on as it is written. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authorization",
  "te",
  "transfer-encoding",
]);

export class HttpDoor implements Disposable {
  readonly #server: Server;
  readonly #visits = new WeakMap<Duplex, HttpVisit>();

  constructor() {
    this.#server = createServer({ keepAliveTimeout: 15_000, requestTimeout: 0, insecureHTTPParser: false });
    this.#server.on("request", (incoming, response) => {
      // Our parser lets some bytes pass that our writer refuses: such a message ends its connection, and never us.
      this.#forward(incoming, response).catch(() => incoming.socket.destroy());
    });
    this.#server.on("upgrade", (incoming: IncomingMessage, socket: Duplex) => {
      // A tunnel by another name: whatever follows could not be compared.
      this.#refuse(incoming, this.#visits.get(socket));
      socket.destroy();
    });
    this.#server.on("connect", (_incoming: IncomingMessage, socket: Duplex) => void socket.destroy());
    this.#server.on("clientError", (_error, socket) => void socket.destroy());
  }

  /** Takes over a socket whose first bytes were put back. */
  serve(socket: Socket, visit: HttpVisit): void {
    this.#visits.set(socket, visit);
    this.#server.emit("connection", socket);
    socket.resume();
  }

  async #forward(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const visit = this.#visits.get(incoming.socket);
    if (visit === undefined || !isFor(incoming, visit.host)) {
      this.#refuse(incoming, visit);
      return;
    }
    const out = await visit.wayOut();
    if (!out.ok) {
      if (out.why === undefined) incoming.socket.destroy();
      else answerRefused(incoming, response, out.why);
      return;
    }
    if (incoming.destroyed) {
      out.stream.destroy();
      return;
    }
    const onward = request({
      createConnection: () => out.stream,
      method: incoming.method,
      path: pathOf(incoming.url ?? "/"),
      headers: [...passedOn(incoming.rawHeaders), ...framing(incoming)],
      setHost: false,
    });
    onward.on("response", (answer) => {
      try {
        response.writeHead(answer.statusCode ?? 502, answer.statusMessage, passedOn(answer.rawHeaders));
      } catch {
        onward.destroy();
        (incoming.socket as Socket).resetAndDestroy();
        return;
      }
      answer.on("error", () => (incoming.socket as Socket).resetAndDestroy());
      answer.pipe(response);
    });
    onward.on("error", (error) => {
      if (error instanceof BudgetError && !response.headersSent)
        answerRefused(incoming, response, exhaustedText(error.exhausted, visit.host));
      else (incoming.socket as Socket).resetAndDestroy();
    });
    response.on("close", () => onward.destroy());
    incoming.on("error", () => onward.destroy());
    incoming.pipe(onward);
  }

  #refuse(incoming: IncomingMessage, visit: HttpVisit | undefined): void {
    const head = `${incoming.method} ${incoming.url} host: ${incoming.headers.host ?? ""}`;
    visit?.onForeign(hostOf(incoming.headers.host), head.slice(0, 200));
    (incoming.socket as Socket).resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.#server.closeAllConnections();
  }
}

/** The last answer on this connection; what is still being sent is thrown away. */
function answerRefused(incoming: IncomingMessage, response: ServerResponse, why: string): void {
  incoming.unpipe();
  incoming.resume();
  response.writeHead(403, { "content-type": "text/plain", connection: "close" });
  response.end(refusalText(why));
}

/**
 * One Host line, for this host; a target that is a path or `*`, or a whole address for the same (RFC 9112 §3.2); and a body that is framed in a way
 * about which nobody can differ.
 */
function isFor(incoming: IncomingMessage, host: string): boolean {
  const { url = "", headers, rawHeaders } = incoming;
  const lines = rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === "host").length;
  const absolute = ABSOLUTE.exec(url)?.[1];
  const target = absolute === undefined ? /^(?:\/|\*$)/.test(url) : hostOf(absolute) === host;
  const encoding = headers["transfer-encoding"]?.toLowerCase();
  return (
    lines === 1 &&
    hostOf(headers.host) === host &&
    target &&
    (encoding === undefined || (encoding === "chunked" && headers["content-length"] === undefined))
  );
}

/** Said for every method: without it the body of a GET would be written bare, and be the next request. */
const framing = ({ headers }: IncomingMessage): readonly string[] =>
  headers["transfer-encoding"] === undefined ? [] : ["Transfer-Encoding", "chunked"];

const ABSOLUTE = /^https?:\/\/([^/?#]+)/i;
const pathOf = (url: string): string => url.replace(ABSOLUTE, "").replace(/^(?![/*])/, "/");

/** As written, in order, also when a name comes twice. */
function passedOn(raw: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < raw.length; i += 2)
    if (!HOP_BY_HOP.has(raw[i]!.toLowerCase())) kept.push(raw[i]!, raw[i + 1]!);
  return kept;
}
