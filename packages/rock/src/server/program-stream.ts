import { AleError } from "@ale/core";
import { z } from "zod";
import type { Process, StartRequest } from "../port/process.ts";
import type { Sandbox } from "../port/sandbox.ts";
import { frameOf, type ServerFrame, STDERR, STDOUT } from "../wire/frames.ts";
import type { Message, Peer } from "../wire/peer.ts";
import { ClientFrame } from "../wire/schemas.ts";

/** A program in a sandbox at one end, a WebSocket at the other. The program does not outlive the connection. */

/** The first frame of a peer: what to start. Throws an AleError `request-invalid`. */
export async function firstFrame(messages: AsyncIterator<Message>): Promise<StartRequest> {
  const first = await messages.next();
  if (first.done) throw new AleError("cancelled", "the client left before it said what to start");
  const frame = frameFrom(first.value);
  if (frame.type !== "start")
    throw new AleError("request-invalid", `the first frame must be a start, not ${frame.type}`);
  const { type: _, ...request } = frame;
  return request as StartRequest;
}

export async function streamProgram(
  peer: Peer,
  messages: AsyncIterator<Message>,
  sandbox: Sandbox,
  request: StartRequest,
  signal: AbortSignal,
): Promise<void> {
  const program = await sandbox.start(request, signal);
  const kill = (): void => void program.signal("SIGKILL").catch(() => undefined);
  signal.addEventListener("abort", kill, { once: true });
  if (signal.aborted) kill();
  const tell = (frame: ServerFrame): Promise<void> => peer.send(JSON.stringify(frame));
  try {
    await tell({ type: "started", id: program.id, pid: program.pid });
    const input = readInput(messages, program, tell);
    input.catch(kill);
    await Promise.all([
      pump(program.stdout, STDOUT, peer),
      pump(program.stderr, STDERR, peer),
      // What the client did wrong ends the stream at once; that it said all does not.
      Promise.race([input.then(() => program.exit), program.exit]),
    ]);
    await tell({ type: "exit", ...(await program.exit) });
  } catch (error) {
    kill();
    throw error;
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

async function pump(
  output: AsyncIterable<Uint8Array>,
  channel: typeof STDOUT | typeof STDERR,
  peer: Peer,
): Promise<void> {
  for await (const chunk of output) await peer.send(frameOf(channel, chunk));
}

async function readInput(
  messages: AsyncIterator<Message>,
  program: Process,
  tell: (frame: ServerFrame) => Promise<void>,
): Promise<void> {
  let reads = true;
  for (;;) {
    const next = await messages.next();
    if (next.done) return;
    if (next.value.binary) {
      if (!reads) continue;
      reads = await accepts(() => program.write(next.value.data));
      if (!reads) await tell({ type: "stdin-closed" });
      continue;
    }
    const frame = frameFrom(next.value);
    if (frame.type === "stdin-close") await accepts(() => program.closeStdin());
    else if (frame.type === "signal") await program.signal(frame.signal);
    else if (frame.type === "resize") await program.resize({ cols: frame.cols, rows: frame.rows });
    else throw new AleError("request-invalid", "the program has been started already");
  }
}

/** False where the program no longer reads; that is its business, not an error. */
async function accepts(write: () => Promise<void>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (error instanceof AleError && error.code === "stdin-closed") return false;
    throw error;
  }
}

function frameFrom({ data, binary }: Message): ClientFrame {
  if (binary) throw new AleError("request-invalid", "stdin came before the start frame");
  let value: unknown;
  try {
    value = JSON.parse(data.toString("utf8"));
  } catch {
    throw new AleError("request-invalid", "a text frame is not JSON");
  }
  const frame = ClientFrame.safeParse(value);
  if (!frame.success) throw new AleError("request-invalid", z.prettifyError(frame.error).slice(0, 2_000));
  return frame.data;
}
