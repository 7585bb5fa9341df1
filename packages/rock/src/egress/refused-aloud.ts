import type { Socket } from "node:net";
import type { Conversation } from "./first-words.ts";

/** How a program learns why its connection ends, as far as what it speaks has words for that. */

/** How long the answer may take to be read. */
const LINGER_MS = 1_000;
/** A fatal alert `access_denied` (RFC 8446 §6), which is all that can be said before there are keys. */
const TLS_ACCESS_DENIED = Buffer.from([21, 3, 3, 0, 2, 2, 49]);

export const refusalText = (why: string): string => `ale: refused: ${why}\n`;

/** Ends the connection. What the client still sends is thrown away. */
export function refusedAloud(socket: Socket, said: Conversation, why: string): void {
  const answer = answerTo(said, refusalText(why));
  if (answer === undefined || socket.destroyed) {
    socket.resetAndDestroy();
    return;
  }
  const timer = setTimeout(() => socket.resetAndDestroy(), LINGER_MS);
  socket.once("close", () => clearTimeout(timer));
  socket.once("end", () => socket.destroySoon());
  socket.end(answer);
  socket.resume();
}

function answerTo(said: Conversation, text: string): Buffer | undefined {
  if (said === "tls") return TLS_ACCESS_DENIED;
  if (said !== "http") return undefined;
  const head = `HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n`;
  return Buffer.from(head + text);
}
