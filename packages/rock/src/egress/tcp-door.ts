import { randomBytes } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { type Exhausted, exhaustedText, take } from "./account.ts";
import { type CrossingOptions, cross, crossWithHttp } from "./crossing.ts";
import { decideAddress, decideHost, type EgressDecision } from "./egress-policy.ts";
import { isFake } from "./fake-addresses.ts";
import type { FirstWords } from "./first-words.ts";
import { type Guest, processOf } from "./guest.ts";
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
import { refusedAloud } from "./refused-aloud.ts";
import { SourcePorts } from "./source-port.ts";
import { listen, objectionTo, placeOf, saidOf, tell, type Visit } from "./visit.ts";

/**
 * Where every TCP connection of every sandbox ends, whatever address it was meant for. What policy allows is dialled again from the
 * host, after the name that the client claims was compared with the one whose address it used; anything else is listened to for a
 * moment, so that it is known what was tried and by whom, and then reset.
 */

export interface TcpDoorOptions extends CrossingOptions {
  readonly namespace: NetNamespace;
  readonly guestOf: (address: string) => Guest | undefined;
  /** Networks in which sandboxes live, e.g. "198.19.0.0/16". */
  readonly sandboxes: readonly string[];
}

/** How long a refused client may take to say what it wants. */
const SINK_MS = 1_000;
/** How long an allowed client may be silent before it is taken for one that waits for the server to speak first. */
const QUIET_MS = 3_000;
const BACKLOG = 4_096;

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
    const host = isFake(to.ip) ? guest.names.nameOf(to.ip) : undefined;
    const visit: Visit = {
      guest,
      socket,
      flow: randomBytes(6).toString("hex"),
      ip: ipText(to.ip),
      port: to.port,
      host,
      sourcePort,
      process: processOf(guest, "tcp", sourcePort, to),
    };
    const decision = this.#decide(visit, isFake(to.ip));
    const budget = decision.allowed ? take(guest, placeOf(visit), "connections") : undefined;
    if (!decision.allowed) this.#refuse(visit, decision.refusal);
    else if (budget !== undefined) this.#refuseFor(visit, budget);
    else void this.#pass(visit);
  }

  #decide(visit: Visit, fake: boolean): EgressDecision {
    const { guest, host, ip, port } = visit;
    const { sandboxes, upstream } = this.#options;
    if (host !== undefined) return decideHost(guest.policy, host, port);
    return fake
      ? { allowed: false, refusal: "name" }
      : decideAddress(guest.policy, ip, port, sandboxes, upstream.own?.() ?? []);
  }

  /** Told at once; what it began to say follows when it has been said. */
  #refuse(visit: Visit, rule: string, heard?: { readonly words: FirstWords }): void {
    const said = heard === undefined ? {} : saidOf(heard.words);
    tell(this.#options.onRecord, visit, "net.deny", { rule, ...said });
    if (heard !== undefined) {
      visit.socket.resetAndDestroy();
      return;
    }
    void listen(visit.socket, SINK_MS).then(({ words }) => {
      tell(this.#options.onRecord, visit, "net.capture", { rule, ...saidOf(words) });
      visit.socket.resetAndDestroy();
    });
  }

  /** Nothing that it does is forbidden, so that the program is told why it has an end. */
  #refuseFor(visit: Visit, budget: Exhausted): void {
    tell(this.#options.onRecord, visit, "net.deny", { rule: "budget", budget });
    void listen(visit.socket, SINK_MS).then(({ words }) => {
      tell(this.#options.onRecord, visit, "net.capture", { rule: "budget", budget, ...saidOf(words) });
      refusedAloud(visit.socket, words.class, exhaustedText(budget, placeOf(visit)));
    });
  }

  async #pass(visit: Visit): Promise<void> {
    const { socket, host, port } = visit;
    const heard = await listen(socket, host === undefined ? 0 : QUIET_MS);
    if (socket.destroyed) return;
    const objection = host === undefined ? undefined : objectionTo(heard.words, host, port);
    if (objection !== undefined) return this.#refuse(visit, objection, heard);
    if (host !== undefined && heard.words.class === "http") {
      crossWithHttp(this.#options, this.#http, visit, host, heard.bytes);
      return;
    }
    const failed = await cross(this.#options, visit, heard);
    if (failed?.refusal === "unreachable") socket.resetAndDestroy();
    else if (failed !== undefined) this.#refuse(visit, failed.refusal, heard);
  }
}

function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd ?? -1;
}
