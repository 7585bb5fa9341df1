import { AleError } from "@ale/core/result";
import type { Process, ProcessExit, Signal, StartRequest, TerminalSize } from "../port/process.ts";
import { type ServerFrame, STDERR } from "../wire/frames.ts";
import type { Message, Peer } from "../wire/peer.ts";
import type { ClientFrame } from "../wire/schemas.ts";
import { Channel } from "./channel.ts";
import { errorFromProblem } from "./transport.ts";

/** A program on the other side of a WebSocket. It ends with the connection. */

const PIECE_BYTES = 64 * 1_024;

export class RemoteProcess implements Process {
  readonly id: string;
  readonly pid: number;
  readonly stdout = new Channel();
  readonly stderr = new Channel();
  readonly exit: Promise<ProcessExit>;
  readonly #peer: Peer;
  readonly #signal: AbortSignal | undefined;
  #stdinClosed: boolean;

  private constructor(
    peer: Peer,
    messages: AsyncIterator<Message>,
    started: Started,
    takesStdin: boolean,
    signal?: AbortSignal,
  ) {
    this.id = started.id;
    this.pid = started.pid;
    this.#peer = peer;
    this.#stdinClosed = !takesStdin;
    this.#signal = signal;
    this.exit = this.#read(messages);
  }

  /** Throws what the server could not start it for. */
  static async start(peer: Peer, request: StartRequest, signal?: AbortSignal): Promise<RemoteProcess> {
    const frame: ClientFrame = {
      type: "start",
      ...(request as Omit<ClientFrame & { type: "start" }, "type">),
    };
    await peer.send(JSON.stringify(frame));
    return RemoteProcess.attach(peer, request.stdin === true || request.tty !== undefined, signal);
  }

  /** For a program that the server starts by itself. */
  static async attach(peer: Peer, takesStdin: boolean, signal?: AbortSignal): Promise<RemoteProcess> {
    const kill = (): void => peer.terminate();
    signal?.addEventListener("abort", kill, { once: true });
    peer.closed.addEventListener("abort", () => signal?.removeEventListener("abort", kill), { once: true });
    const messages = peer[Symbol.asyncIterator]();
    const first = await messages.next();
    signal?.throwIfAborted();
    if (first.done)
      throw new AleError("server-unreachable", "the connection ended before the program started");
    const answer = frameOf(first.value);
    if (answer.type === "error") throw errorFromProblem(answer.problem);
    if (answer.type !== "started") throw new AleError("server-answer", `unexpected frame ${answer.type}`);
    return new RemoteProcess(peer, messages, answer, takesStdin, signal);
  }

  async write(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    for (let offset = 0; offset < bytes.length; offset += PIECE_BYTES) {
      if (this.#stdinClosed || this.#peer.closed.aborted)
        throw new AleError("stdin-closed", "the program no longer reads its input");
      await this.#peer.send(bytes.subarray(offset, offset + PIECE_BYTES));
    }
  }

  closeStdin(): Promise<void> {
    this.#stdinClosed = true;
    return this.#tell({ type: "stdin-close" });
  }

  signal(signal: Signal): Promise<void> {
    return this.#tell({ type: "signal", signal });
  }

  resize(size: TerminalSize): Promise<void> {
    return this.#tell({ type: "resize", ...size });
  }

  #tell(frame: ClientFrame): Promise<void> {
    return this.#peer.send(JSON.stringify(frame));
  }

  async #read(messages: AsyncIterator<Message>): Promise<ProcessExit> {
    let exit: ProcessExit | undefined;
    for (;;) {
      const next = await messages.next();
      if (next.done) break;
      const { data, binary } = next.value;
      if (binary) await (data[0] === STDERR ? this.stderr : this.stdout).push(data.subarray(1));
      else {
        const frame = frameOf(next.value);
        if (frame.type === "stdin-closed") this.#stdinClosed = true;
        if (frame.type === "exit") exit = exitOf(frame);
        if (frame.type === "exit" || frame.type === "error") break;
      }
    }
    this.stdout.end();
    this.stderr.end();
    this.#peer.close();
    await Promise.all([this.stdout.drained, this.stderr.drained]);
    const reason = this.#signal?.aborted ? "cancelled" : "sandbox-gone";
    return exit ?? { exitCode: null, signal: null, reason };
  }
}

type Started = Extract<ServerFrame, { type: "started" }>;

const exitOf = ({ exitCode, signal, reason }: Extract<ServerFrame, { type: "exit" }>): ProcessExit => ({
  exitCode,
  signal,
  reason,
});

function frameOf({ data, binary }: Message): ServerFrame {
  if (binary) throw new AleError("server-answer", "unexpected bytes before the program started");
  return JSON.parse(data.toString("utf8")) as ServerFrame;
}
