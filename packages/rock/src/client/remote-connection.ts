import { Duplex } from "node:stream";
import { AleError } from "@ale/core/result";
import type { RelayFrame } from "../wire/frames.ts";
import type { Message, Peer } from "../wire/peer.ts";
import { errorFromProblem } from "./transport.ts";

/** A TCP connection to a port in a sandbox, carried by a WebSocket. */

const PIECE_BYTES = 64 * 1_024;

/** Throws an AleError `connect-failed` where nobody listens. */
export async function connectionOver(peer: Peer): Promise<Duplex> {
  const messages = peer[Symbol.asyncIterator]();
  const first = await messages.next();
  if (first.done) throw new AleError("server-unreachable", "the connection ended before it was made");
  const frame = JSON.parse(first.value.data.toString("utf8")) as RelayFrame;
  if (frame.type === "error") throw errorFromProblem(frame.problem);
  return duplexOver(peer, messages);
}

function duplexOver(peer: Peer, messages: AsyncIterator<Message>): Duplex {
  let reading = false;
  return new Duplex({
    allowHalfOpen: false,
    read(): void {
      if (reading) return;
      reading = true;
      void messages.next().then((next) => {
        reading = false;
        if (next.done || !next.value.binary) this.push(null);
        else this.push(next.value.data);
      });
    },
    write(chunk: Buffer, _encoding, done): void {
      send(peer, chunk).then(() => done(), done);
    },
    final(done): void {
      peer.close();
      done();
    },
    destroy(error, done): void {
      peer.close();
      done(error);
    },
  });
}

async function send(peer: Peer, chunk: Buffer): Promise<void> {
  for (let offset = 0; offset < chunk.length; offset += PIECE_BYTES)
    await peer.send(chunk.subarray(offset, offset + PIECE_BYTES));
}
