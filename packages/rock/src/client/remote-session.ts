import type { CommandOptions, Session, SessionResult } from "../port/session.ts";
import { serverEvents } from "./server-events.ts";
import type { Call, Transport } from "./transport.ts";

/** A shell of a sandbox on a server. */
export class RemoteSession implements Session {
  readonly id: string;
  readonly #transport: Transport;
  readonly #path: string;
  #closed = false;

  constructor(transport: Transport, sandbox: string, name: string) {
    this.id = name;
    this.#transport = transport;
    this.#path = `/sandboxes/${sandbox}/sessions/${name}`;
  }

  async run(command: string, options: CommandOptions = {}, signal?: AbortSignal): Promise<SessionResult> {
    const { timeoutMs, onOutput } = options;
    const call: Call = {
      method: "POST",
      path: `${this.#path}/run`,
      json: { command, timeoutMs, base64: onOutput !== undefined },
      ...(signal === undefined ? {} : { signal }),
    };
    if (onOutput === undefined) return this.#transport.json(call);
    const answer = await this.#transport.open({ ...call, headers: { accept: "text/event-stream" } });
    let result: SessionResult | undefined;
    for await (const { event, data } of serverEvents(answer)) {
      if (event === "output") onOutput(Buffer.from(data as string, "base64"));
      if (event === "result") result = data as SessionResult;
    }
    return result ?? LOST;
  }

  interrupt(): Promise<void> {
    return this.#transport.json({ method: "POST", path: `${this.#path}/interrupt` });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#transport.json({ method: "DELETE", path: this.#path });
  }
}

const LOST: SessionResult = {
  exitCode: null,
  output: "the connection to the server ended",
  outputBytes: 0,
  truncated: false,
  timedOut: false,
  interrupted: false,
  shellRestarted: false,
  durationMs: 0,
};
