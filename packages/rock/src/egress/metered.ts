import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { charge, type Exhausted, left, type Spender } from "./account.ts";

/**
 * A connection to the outside that passes no more than the budgets have left, either way, to the byte. A piece that is more than that is cut,
 * and the connection ends with a `BudgetError`. What an outside server had sent by then is thrown away.
 */

export interface Metered {
  readonly stream: Duplex;
  /** What was charged. */
  readonly flow: { readonly bytesUp: number; readonly bytesDown: number };
}

export class BudgetError extends Error {
  readonly exhausted: Exhausted;

  constructor(exhausted: Exhausted) {
    super(`a network budget is used up: ${exhausted.of} ${exhausted.what}`);
    this.exhausted = exhausted;
  }
}

/** Takes the socket over. `host`: whose budget it is beside the sandbox's own. */
export function metered(spender: Spender, host: string, socket: Socket): Metered {
  const flow = { bytesUp: 0, bytesDown: 0 };
  /** What of a piece may pass; the error, where that is not all of it. */
  const allowed = (piece: Buffer, what: "bytesUp" | "bytesDown"): [Buffer, BudgetError | null] => {
    const { amount, by } = left(spender, host, what);
    const part = piece.length <= amount ? piece : piece.subarray(0, amount);
    charge(spender.account, host, what, part.length);
    flow[what] += part.length;
    const used = by.used + part.length;
    return [part, part.length === piece.length ? null : new BudgetError({ ...by, used })];
  };
  const stream = new Duplex({
    write: (piece: Buffer, _encoding, done) => {
      const [part, error] = allowed(piece, "bytesUp");
      // Ended only when the outside has what was still allowed.
      if (part.length === 0) done(error);
      else socket.write(part, (failed) => done(error ?? failed));
    },
    final: (done) => void socket.end(() => done()),
    read: () => void socket.resume(),
    destroy: (error, done) => {
      socket.destroy();
      done(error);
    },
  });
  socket.on("data", (piece: Buffer) => {
    const [part, error] = allowed(piece, "bytesDown");
    if (error !== null) stream.destroy(error);
    else if (!stream.push(part)) socket.pause();
  });
  socket.once("end", () => stream.push(null));
  socket.once("error", (error) => stream.destroy(error));
  socket.once("close", () => {
    // What has come in is read first.
    if (!socket.readableEnded || stream.readableEnded) stream.destroy();
    else stream.once("end", () => stream.destroy());
  });
  return { stream, flow };
}
