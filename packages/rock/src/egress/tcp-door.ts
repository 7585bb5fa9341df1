import { randomBytes } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import type { Telemetry } from "@ale/core";
import { decideAddress, decideHost, type EgressDecision, MODEL_GATEWAY } from "./egress-policy.ts";
import { type FakeAddresses, isFake } from "./fake-addresses.ts";
import { ENOUGH_BYTES, type FirstWords, firstWords } from "./first-words.ts";
import { addBytes, type Guest, type OnRecord, processOf, recordOf, spent, take } from "./guest.ts";
import { HttpDoor } from "./http-door.ts";
import {
  AF_INET,
  bindSocket,
  inetAddress,
  ipText,
  listenOn,
  type NetNamespace,
  openSocket,
  originalDestination,
  SOCK_STREAM,
  within,
} from "./native-net.ts";
import { SourcePorts } from "./source-port.ts";
import { type Dialled, dialAddress, dialName, type ModelGateway, type Upstream } from "./upstream.ts";

/**
 * Where every TCP connection of every sandbox ends, whatever address it was meant for. What policy allows is dialled again from the
 * host, after the name that the client claims was compared with the one whose address it used; anything else is listened to for a
 * moment, so that it is known what was tried and by whom, and then reset.
 */

export interface TcpDoorOptions {
  readonly namespace: NetNamespace;
  readonly names: FakeAddresses;
  readonly guestOf: (address: string) => Guest | undefined;
  readonly onRecord: OnRecord;
  readonly upstream: Upstream;
  /** Undefined: nobody reaches one. */
  readonly modelGateway: ModelGateway | undefined;
  /** Networks in which sandboxes live, e.g. "198.19.0.0/16". */
  readonly sandboxes: readonly string[];
}

/** How long a refused client may take to say what it wants. */
const SINK_MS = 1_000;
/** How long an allowed client may be silent before it is taken for one that waits for the server to speak first. */
const QUIET_MS = 3_000;
const BACKLOG = 4_096;

interface Visit {
  readonly guest: Guest;
  readonly socket: Socket;
  readonly flow: string;
  readonly ip: string;
  readonly port: number;
  /** Undefined where the address was used without a name. */
  readonly host: string | undefined;
  /** The sandbox's own. */
  readonly sourcePort: number;
  readonly process: Telemetry["process"];
  readonly startedAt: number;
}

export class TcpDoor implements Disposable {
  readonly #options: TcpDoorOptions;
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  readonly #http = new HttpDoor();
  readonly #sourcePorts: SourcePorts;

  private constructor(options: TcpDoorOptions, server: Server) {
    this.#options = options;
    this.#sourcePorts = new SourcePorts(options.namespace);
    this.#server = server;
    server.on("connection", (socket) => this.#welcome(socket));
    server.unref();
  }

  static async open(options: TcpDoorOptions): Promise<TcpDoor> {
    const fd = within(options.namespace, () => {
      const made = openSocket(AF_INET, SOCK_STREAM, 0);
      bindSocket(made, inetAddress(0, 0));
      listenOn(made, BACKLOG);
      return made;
    });
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ fd }, resolve);
    });
    return new TcpDoor(options, server);
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Ends what a guest has open, as when its policy became narrower. */
  endConnections(of: Guest): void {
    for (const socket of this.#open)
      if (this.#options.guestOf(socket.remoteAddress ?? "") === of) socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.#server.close();
    this.#http[Symbol.dispose]();
    this.#sourcePorts[Symbol.dispose]();
    for (const socket of this.#open) socket.resetAndDestroy();
  }

  #welcome(socket: Socket): void {
    socket.on("error", () => {});
    this.#open.add(socket);
    socket.once("close", () => this.#open.delete(socket));
    // The peer may be gone before it was accepted; then there is no address, and nobody to hear.
    const guest = this.#options.guestOf(socket.remoteAddress ?? "");
    const to = originalDestination(descriptorOf(socket));
    if (guest === undefined || to === undefined) {
      socket.resetAndDestroy();
      return;
    }
    const sourcePort = this.#sourcePorts.of({
      // Its end of the cable: addresses come in pairs.
      doorIp: guest.address - 1,
      doorPort: this.port,
      sandboxIp: guest.address,
      port: socket.remotePort ?? 0,
    });
    const host = isFake(to.ip) ? this.#options.names.nameOf(to.ip) : undefined;
    const visit: Visit = {
      guest,
      socket,
      flow: randomBytes(6).toString("hex"),
      ip: ipText(to.ip),
      port: to.port,
      host,
      sourcePort,
      process: processOf(guest, "tcp", sourcePort, to),
      startedAt: performance.now(),
    };
    const decision = this.#decide(visit, isFake(to.ip));
    if (!decision.allowed) this.#refuse(visit, decision.refusal);
    else if (!take(guest, host, "connections")) this.#refuse(visit, "budget");
    else void this.#pass(visit);
  }

  #decide(visit: Visit, fake: boolean): EgressDecision {
    const { guest, host, ip, port } = visit;
    if (host !== undefined) return decideHost(guest.policy, host, port);
    return fake
      ? { allowed: false, refusal: "name" }
      : decideAddress(guest.policy, ip, port, this.#options.sandboxes);
  }

  /** Told at once; what it began to say follows when it has been said. */
  #refuse(visit: Visit, rule: string, heard?: { readonly words: FirstWords }): void {
    this.#record(visit, "net.deny", "proxy", { rule, ...(heard === undefined ? {} : saidOf(heard.words)) });
    if (heard !== undefined) {
      visit.socket.resetAndDestroy();
      return;
    }
    void listen(visit.socket, SINK_MS).then(({ words }) => {
      this.#record(visit, "net.capture", "sink", { rule, ...saidOf(words) });
      visit.socket.resetAndDestroy();
    });
  }

  async #pass(visit: Visit): Promise<void> {
    const { socket, host, port } = visit;
    const { words, bytes } = await listen(socket, host === undefined ? 0 : QUIET_MS);
    if (socket.destroyed) return;
    const objection = host === undefined ? undefined : objectionTo(words, host, port);
    if (objection !== undefined) return this.#refuse(visit, objection, { words });
    if (host !== undefined && words.class === "http") {
      this.#passHttp(visit, host, bytes);
      return;
    }
    const dialled = await this.#dial(visit);
    if (!dialled.ok) {
      if (dialled.refusal === "unreachable") socket.resetAndDestroy();
      else this.#refuse(visit, dialled.refusal, { words });
      return;
    }
    this.#join(visit, dialled.socket, bytes, words);
  }

  /** Every request is compared and counted; each has a connection of its own to where the name leads. */
  #passHttp(visit: Visit, host: string, first: Buffer): void {
    const { socket, port } = visit;
    socket.unshift(first);
    this.#http.serve(socket, {
      host,
      port,
      dial: async () => {
        const dialled = await this.#dialForRequest(visit, host);
        if (dialled.ok)
          return { socket: dialled.socket, count: this.#account(visit, dialled.socket, "http") };
        if (dialled.refusal !== "unreachable")
          this.#record(visit, "net.deny", "proxy", { rule: dialled.refusal });
        return undefined;
      },
      onForeign: (claimed, head) =>
        this.#record(visit, "net.deny", "proxy", {
          rule: "fronting",
          class: "http",
          head,
          ...(claimed === null ? {} : { claimed }),
        }),
    });
  }

  /**
   * Counts what passes over a connection to the outside, and tells of it when it has ended. The result is to be called for each piece that
   * passes: it ends the connection when the budget is used up.
   */
  #account(visit: Visit, out: Socket, kind: FirstWords["class"], alpn = ""): () => void {
    const { guest, socket, host } = visit;
    const flow = { bytesUp: 0, bytesDown: 0 };
    const upstream = upstreamOf(out);
    const startedAt = performance.now();
    const count = (): void => {
      // A socket that ended no longer counts what it had still to send; what was counted stays.
      const now = { bytesUp: Math.max(flow.bytesUp, out.bytesWritten), bytesDown: out.bytesRead };
      addBytes(guest, host, now.bytesUp - flow.bytesUp, now.bytesDown - flow.bytesDown);
      Object.assign(flow, now);
      if (out.destroyed || !spent(guest, host)) return;
      this.#record(visit, "net.deny", "proxy", { rule: "budget", ...upstream, ...flow });
      socket.resetAndDestroy();
      out.destroy();
    };
    out.once("close", () => {
      count();
      const durationMs = performance.now() - startedAt;
      this.#record(visit, "net.flow", "proxy", { class: kind, alpn, ...upstream, ...flow, durationMs });
    });
    return count;
  }

  /** The policy may be another one than when the connection was made. */
  async #dialForRequest(visit: Visit, host: string): Promise<Dialled> {
    const decision = decideHost(visit.guest.policy, host, visit.port);
    if (!decision.allowed) return { ok: false, refusal: decision.refusal };
    if (!take(visit.guest, host, "requests")) return { ok: false, refusal: "budget" };
    return this.#dial(visit);
  }

  #dial({ guest, host, ip, port }: Visit): Promise<Dialled> {
    const { upstream, modelGateway } = this.#options;
    if (host === MODEL_GATEWAY)
      return modelGateway === undefined
        ? Promise.resolve({ ok: false, refusal: "name" })
        : dialAddress(upstream, modelGateway.host, modelGateway.port);
    return host === undefined
      ? dialAddress(upstream, ip, port)
      : dialName(upstream, guest.policy, host, port);
  }

  /** Carries bytes both ways at the pace of the slower side. */
  #join(visit: Visit, out: Socket, first: Buffer, words: FirstWords): void {
    const { socket } = visit;
    const count = this.#account(visit, out, words.class, words.alpn.join(","));
    socket.once("close", () => out.destroy());
    out.once("close", () => socket.destroy());
    if (first.length > 0) out.write(first);
    socket.pipe(out);
    out.pipe(socket);
    // After the pipes: a piece is counted when it has been passed on.
    for (const side of [socket, out]) side.on("data", count);
  }

  #record(
    visit: Visit,
    kind: "net.deny" | "net.capture" | "net.flow",
    source: "proxy" | "sink",
    net: NonNullable<Telemetry["net"]>,
  ): void {
    const { guest, flow, ip, port, host, sourcePort, process } = visit;
    const place = host === undefined ? { ip } : { host };
    this.#options.onRecord(
      recordOf(guest, kind, source, {
        net: { flow, protocol: "tcp", ...place, port, sourcePort, ...net },
        ...(process === undefined ? {} : { process }),
      }),
    );
  }
}

/** What the connection looks like from beyond the gateway; a socket forgets it when it is closed. */
function upstreamOf(out: Socket): Pick<NonNullable<Telemetry["net"]>, "upstream"> {
  const { remoteAddress: ip, remotePort: port, localAddress: sourceIp, localPort: sourcePort } = out;
  if (ip === undefined || port === undefined) return {};
  return {
    upstream: {
      ip,
      port,
      ...(sourceIp === undefined ? {} : { sourceIp }),
      ...(sourcePort === undefined ? {} : { sourcePort }),
    },
  };
}

/** Why a connection to an allowed name is not what it was allowed for. */
function objectionTo(words: FirstWords, host: string, port: number): "fronting" | "protocol" | undefined {
  const named = words.class === "tls" || words.class === "http" || words.class === "http-connect";
  // A name that is hidden or left out cannot be compared, which is all that fronting needs.
  if (named && words.claimed !== host) return "fronting";
  if (port === 443 && words.class !== "tls") return "protocol";
  return port === 80 && words.class !== "http" ? "protocol" : undefined;
}

const saidOf = (words: FirstWords): NonNullable<Telemetry["net"]> => ({
  class: words.class,
  head: words.head,
  ...(words.claimed === null ? {} : { claimed: words.claimed }),
  ...(words.alpn.length === 0 ? {} : { alpn: words.alpn.join(",") }),
});

/** Reads until it is clear what is being said, for at most so long. The socket is paused again afterwards. */
function listen(socket: Socket, ms: number): Promise<{ words: FirstWords; bytes: Buffer }> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    const done = (): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off("data", hear);
      socket.off("end", done);
      socket.off("close", done);
      resolve({ words: firstWords(bytes), bytes });
    };
    const hear = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length >= ENOUGH_BYTES || !firstWords(bytes).undecided) done();
    };
    const timer = setTimeout(done, ms);
    socket.on("data", hear);
    socket.once("end", done);
    socket.once("close", done);
    if (ms > 0) socket.resume();
  });
}

function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd ?? -1;
}
