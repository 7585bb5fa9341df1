import { Duplex } from "node:stream";
import type { Peer } from "../wire/peer.ts";

/** A TCP connection to a port in a sandbox, carried by a WebSocket. */

const PIECE_BYTES = 64 * 1_024;

export function connectionOver(peer: Peer): Duplex {
  const messages = peer[Symbol.asyncIterator]();
  let reading = false;
  const connection = new Duplex({
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
  return connection;
}

async function send(peer: Peer, chunk: Buffer): Promise<void> {
  for (let offset = 0; offset < chunk.length; offset += PIECE_BYTES)
    await peer.send(chunk.subarray(offset, offset + PIECE_BYTES));
}
