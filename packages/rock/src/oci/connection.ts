import { Duplex } from "node:stream";
import { AleError } from "@ale/core";
import { Inflow, Outflow, WINDOW_BYTES } from "../inside/flow.ts";
import type { Connection } from "../port/process.ts";
import { gone, type InitClient } from "./init-client.ts";

/** Connections to what listens on a sandbox's loopback: PID 1 dials inside and relays. */

/** Throws an AleError: `connect-failed`, `sandbox-gone`. Aborting `signal` gives up before the connection stands, not later. */
export async function connectTo(
  client: InitClient,
  sandbox: string,
  port: number,
  signal?: AbortSignal,
): Promise<Connection> {
  signal?.throwIfAborted();
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw connectFailed(port, "not a port", "use a whole number from 1 to 65535");
  const link = new Link(client);
  const giveUp = (): void => void link.destroy();
  signal?.addEventListener("abort", giveUp, { once: true });
  const why = await link.dial(port);
  signal?.removeEventListener("abort", giveUp);
  signal?.throwIfAborted();
  if (why === undefined) return link;
  link.destroy();
  if (why === GONE) throw gone(sandbox);
  throw connectFailed(
    port,
    why,
    "start what listens there first; it may listen on 127.0.0.1, ::1 or all addresses",
  );
}

const GONE = "gone";

function connectFailed(port: number, why: string, next: string): AleError {
  return new AleError("connect-failed", `no connection to port ${port} of the sandbox: ${why}`, { next });
}

/** Owns PID 1's end too: destroying it hangs up there. */
class Link extends Duplex {
  readonly #client: InitClient;
  readonly #in: Inflow;
  readonly #out: Outflow;
  #id = "";
  #over = false;

  constructor(client: InitClient) {
    super({ allowHalfOpen: true });
    this.#client = client;
    this.#in = new Inflow(
      (bytes) => client.send("credit", this.#id, "out", bytes),
      () => {},
    );
    this.#out = new Outflow((bytes, last) => client.send("write", this.#id, bytes, last ? 1 : 0));
  }

  /** Resolves with why there is no connection, or with nothing. */
  dial(port: number): Promise<string | undefined> {
    return new Promise((resolve) => {
      this.once("close", () => resolve(GONE));
      this.#id = this.#client.converse("connect", [port, WINDOW_BYTES], {
        hear: (type, [first, second]) => {
          if (type === "started") resolve(undefined);
          else if (type === "fail") resolve(String(first));
          else if (type === "out" && second !== undefined) this.#in.push(second);
          else if (type === "end") this.#in.end();
          else if (type === "taken") this.#out.taken(Number(first));
          else if (type === "deaf") this.#out.deaf();
          const last = type === "fail" || type === "exit";
          if (last) this.#finish();
          return last;
        },
        gone: () => {
          this.#finish();
          resolve(GONE);
          this.destroy();
        },
      });
    });
  }

  #finish(): void {
    this.#over = true;
    this.#in.end();
    this.#out.deaf();
  }

  override _read(): void {
    void this.#in.read().then((chunk) => this.push(chunk ?? null));
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#out.write(chunk).then(() => done(), done);
  }

  override _final(done: () => void): void {
    this.#out.close();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#over && this.#id !== "") this.#client.send("hang-up", this.#id);
    this.#finish();
    done(error);
  }
}
