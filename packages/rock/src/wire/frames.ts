import type { ProcessExit } from "../port/process.ts";
import type { Problem } from "./problem.ts";

/**
 * What goes over the WebSocket of a running program. From the server, a binary frame is one byte for the channel and then its bytes; a
 * text frame is one of `ServerFrame` as JSON. From the client, a binary frame is stdin; a text frame is one of `ClientFrame`.
 */

export const STDOUT = 1;
export const STDERR = 2;

export type ServerFrame =
  | { readonly type: "started"; readonly id: string; readonly pid: number }
  | ({ readonly type: "exit" } & ProcessExit)
  /** Nothing written from now on is read. */
  | { readonly type: "stdin-closed" }
  | { readonly type: "error"; readonly problem: Problem };

/** The text frame that a relay to a port begins with. */
export type RelayFrame =
  | { readonly type: "connected" }
  | { readonly type: "error"; readonly problem: Problem };

export function frameOf(channel: typeof STDOUT | typeof STDERR, bytes: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(bytes.length + 1);
  frame[0] = channel;
  frame.set(bytes, 1);
  return frame;
}
