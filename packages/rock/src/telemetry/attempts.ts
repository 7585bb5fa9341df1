import type { Known } from "./process-tree.ts";

/**
 * Connections that processes asked for, to be found again by what a gateway sees of them: the local port where the kernel told it, else
 * the destination and the time. Times are in milliseconds on the telemetry's clock. Pure.
 */

export interface Attempt {
  readonly by: Known;
  readonly at: number;
  readonly ip: string;
  readonly port: number;
  sourcePort: number | undefined;
}

export interface Seen {
  readonly sandbox: string;
  readonly at: number;
  readonly sourcePort?: number | undefined;
  readonly port?: number | undefined;
  readonly ip?: string | undefined;
}

/** How long after its beginning a connection may be asked for: what is held longer was asked for before. */
const REMEMBERED_MS = 30_000;

export class Attempts {
  readonly #bySocket = new Map<string, Attempt>();
  readonly #recent = new Map<string, Attempt[]>();

  begin(socket: string, attempt: Attempt): void {
    this.#bySocket.set(socket, attempt);
    const list = this.#recent.get(attempt.by.sandbox) ?? [];
    if (list.length === 0) this.#recent.set(attempt.by.sandbox, list);
    list.push(attempt);
  }

  /** Its local port is known; the socket's name may be another's now. */
  bound(socket: string, sourcePort: number): void {
    const attempt = this.#bySocket.get(socket);
    this.#bySocket.delete(socket);
    if (attempt !== undefined && sourcePort !== 0) attempt.sourcePort = sourcePort;
  }

  find({ sandbox, at, sourcePort, port, ip }: Seen): Attempt | undefined {
    const list = this.#recent.get(sandbox) ?? [];
    const before = list.filter((one) => one.at <= at + 1 && one.port === port);
    const exact = before.findLast((one) => sourcePort !== undefined && one.sourcePort === sourcePort);
    if (exact !== undefined) return exact;
    const maybe = before.filter((one) => one.sourcePort === undefined && (ip === undefined || one.ip === ip));
    // Two processes that ask for the same at the same time cannot be told apart without the port.
    return new Set(maybe.map(({ by }) => by)).size === 1 ? maybe.at(-1) : undefined;
  }

  sweep(at: number): void {
    for (const [sandbox, list] of this.#recent) {
      const kept = list.filter((one) => one.at > at - REMEMBERED_MS);
      if (kept.length === 0) this.#recent.delete(sandbox);
      else this.#recent.set(sandbox, kept);
    }
    for (const [socket, one] of this.#bySocket)
      if (one.at <= at - REMEMBERED_MS) this.#bySocket.delete(socket);
  }

  clear(): void {
    this.#bySocket.clear();
    this.#recent.clear();
  }
}
