import { lookup } from "node:dns/promises";
import { connect, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { NetworkPolicy } from "@ale/core";
import { decideUpstream } from "./egress-policy.ts";

/** The way out, from the host's own network. The proxy resolves names itself and dials what it has resolved, never a private address. */
export interface Upstream {
  /** Addresses of this host, besides the private ones that every host has. Default: none. */
  readonly own?: () => readonly string[];
  /** Addresses of a name, as the host's resolver has them. */
  readonly resolve: (name: string) => Promise<readonly string[]>;
  readonly dial: (address: string, port: number) => Socket;
}

/** Of this host's interfaces. */
export const ownAddresses = (): readonly string[] =>
  Object.values(networkInterfaces()).flatMap((found) =>
    (found ?? []).map(({ address }) => address.replace(/%.*$/, "")),
  );

export const HOST_UPSTREAM: Upstream = {
  own: ownAddresses,
  resolve: async (name) => (await lookup(name, { all: true, family: 4 })).map(({ address }) => address),
  dial: (address, port) => connect({ host: address, port, noDelay: true }),
};

/** Where the name of the model gateway leads, from the host: the one private address that is dialled. */
export interface ModelGateway {
  /** Name or address. */
  readonly host: string;
  readonly port: number;
}

export type Dialled =
  | { readonly ok: true; readonly socket: Socket; readonly address: string }
  /** `private`, `metadata`: the name leads there. `unreachable`: no address answers. */
  | { readonly ok: false; readonly refusal: string; readonly address?: string };

const CONNECT_MS = 10_000;

/** Connects to the first address that policy lets and that answers. */
export async function dialName(
  upstream: Upstream,
  policy: NetworkPolicy,
  name: string,
  port: number,
): Promise<Dialled> {
  const addresses = await upstream.resolve(name).catch(() => []);
  let refused: Dialled = { ok: false, refusal: "unreachable" };
  for (const address of addresses) {
    const decision = decideUpstream(policy, address, port, upstream.own?.() ?? []);
    if (!decision.allowed) {
      refused = { ok: false, refusal: decision.refusal, address };
      continue;
    }
    const socket = await connected(upstream.dial(address, port));
    if (socket !== undefined) return { ok: true, socket, address };
  }
  return refused;
}

export async function dialAddress(upstream: Upstream, address: string, port: number): Promise<Dialled> {
  const socket = await connected(upstream.dial(address, port));
  return socket === undefined ? { ok: false, refusal: "unreachable" } : { ok: true, socket, address };
}

function connected(socket: Socket): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const give = (result: Socket | undefined): void => {
      clearTimeout(timer);
      if (result === undefined) socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => give(undefined), CONNECT_MS);
    // Stays: an error after the connection was made ends it, and must not end us.
    socket.on("error", () => give(undefined));
    socket.once("connect", () => give(socket));
  });
}
