import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";

/**
 * The driver's end of the conversation with PID 1 (init/*.pl): frames of a 32-bit length and then strings that each carry a
 * 32-bit length. Everything that comes out of a sandbox passes here, so nothing of it is trusted to be well-formed.
 */

/** Output of one stream: its first and last bytes, and how many there were. */
export interface Captured {
  readonly total: number;
  readonly head: Buffer;
  readonly tail: Buffer;
}

/** Why something was ended that did not end by itself. */
export type Killed = "" | "timeout" | "cancelled" | "killed" | "interrupted";

export type Reply =
  | {
      readonly type: "done";
      readonly status: number;
      /** Why it was ended from outside, if it was. */
      readonly killed: Killed;
      readonly restarted: boolean;
      /** It did not end when it was interrupted, and was killed. */
      readonly forced: boolean;
      readonly out: Captured;
      readonly err: Captured;
    }
  | { readonly type: "ok" }
  /** The sandbox could not start a process. */
  | { readonly type: "fail"; readonly message: string }
  /** The sandbox ended before it answered. */
  | { readonly type: "gone" };

type Field = string | Uint8Array | number;

/** Longest frame from a sandbox that is believed; no reply of PID 1 comes near (two streams of at most 64 MiB). */
const MAX_FRAME = 256 * 2 ** 20;

export function encodeFrame(fields: readonly Field[]): Buffer {
  const parts: Buffer[] = [Buffer.alloc(4)];
  let length = 0;
  for (const field of fields) {
    const bytes = typeof field === "object" ? Buffer.from(field) : Buffer.from(String(field), "utf8");
    const prefix = Buffer.alloc(4);
    prefix.writeUInt32BE(bytes.length);
    parts.push(prefix, bytes);
    length += 4 + bytes.length;
  }
  parts[0]!.writeUInt32BE(length);
  return Buffer.concat(parts);
}

/** The strings of one frame's payload. Throws on a malformed one. */
export function decodeFrame(payload: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < payload.length) {
    const length = payload.readUInt32BE(at);
    if (at + 4 + length > payload.length) throw new RangeError("a string of the frame ends after the frame");
    fields.push(payload.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return fields;
}

/** Cuts a byte stream into frames. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #length = 0;

  *push(chunk: Buffer): Generator<Buffer[]> {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    while (this.#length >= 4) {
      const first = this.#gather(4);
      const size = first.readUInt32BE(0);
      if (size > MAX_FRAME) throw new RangeError(`a frame of ${size} bytes`);
      if (this.#length < 4 + size) return;
      const whole = this.#gather(4 + size);
      const frame = decodeFrame(whole.subarray(4, 4 + size));
      // Not even an empty rest is kept, for it would keep what it is of.
      this.#chunks = whole.length > 4 + size ? [whole.subarray(4 + size)] : [];
      this.#length -= 4 + size;
      yield frame;
    }
  }

  /** The first chunk, made at least `size` long; joins only when a frame is spread over chunks. */
  #gather(size: number): Buffer {
    if (this.#chunks[0] === undefined || this.#chunks[0].length < size)
      this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0]!;
  }
}

const text = (field: Buffer | undefined): string => field?.toString("utf8") ?? "";

function captured(total: Buffer | undefined, head: Buffer | undefined, tail: Buffer | undefined): Captured {
  // Copies: a slice would keep the whole frame alive for as long as the result is.
  return { total: Number(text(total)), head: Buffer.from(head ?? []), tail: Buffer.from(tail ?? []) };
}

export function parseKilled(field: Buffer | undefined): Killed {
  const why = text(field);
  return KILLED.find((known) => known === why) ?? "";
}

const KILLED: readonly Killed[] = ["timeout", "cancelled", "killed", "interrupted"];

function parseReply(type: string, fields: readonly Buffer[]): Reply {
  if (type === "ok") return { type: "ok" };
  if (type === "fail") return { type: "fail", message: text(fields[0]) };
  return {
    type: "done",
    status: Number(text(fields[0])),
    killed: parseKilled(fields[1]),
    restarted: text(fields[2]) === "1",
    forced: text(fields[3]) === "1",
    out: captured(fields[4], fields[5], fields[6]),
    err: captured(fields[7], fields[8], fields[9]),
  };
}

/** Hears everything that PID 1 says under one id. */
export interface Listener {
  /** Returns true for the last frame of the conversation. */
  hear(type: string, fields: readonly Buffer[]): boolean;
  /** Nothing more will come: the sandbox has ended. */
  gone(): void;
}

/** A shell that PID 1 has started for a session: its number inside, and its start in clock ticks since boot. */
export interface ShellStart {
  readonly pid: number;
  readonly ticks: number;
}

/** Requests to PID 1 and their replies. Does not own the connection. */
export class ControlChannel {
  readonly ready: Promise<boolean>;
  /** Told of each shell before that has read its first command. */
  onShell: (start: ShellStart) => void = () => {};
  #connection: Duplex | undefined;
  #listeners = new Map<string, Listener>();
  #resolveReady: (ready: boolean) => void = () => {};
  #gone = false;
  #opening: (() => readonly (readonly Field[])[]) | undefined;

  /** `opening`: frames that go before the first request, for a PID 1 that only waits. */
  constructor(opening?: () => readonly (readonly Field[])[]) {
    this.#opening = opening;
    this.ready = new Promise((resolve) => {
      this.#resolveReady = resolve;
    });
  }

  attach(connection: Duplex): void {
    this.#connection = connection;
    const reader = new FrameReader();
    connection.on("data", (chunk: Buffer) => {
      try {
        for (const frame of reader.push(chunk)) this.#receive(frame);
      } catch {
        connection.destroy();
        this.close();
      }
    });
    connection.on("close", () => this.close());
    connection.on("error", () => this.close());
    connection.resume();
  }

  get gone(): boolean {
    return this.#gone;
  }

  send(type: string, ...fields: readonly Field[]): void {
    if (this.#gone) return;
    const frames = [...(this.#opening?.() ?? []), [type, ...fields]].map(encodeFrame);
    this.#opening = undefined;
    this.#connection?.write(frames.length === 1 ? frames[0]! : Buffer.concat(frames));
  }

  /** Begins a conversation under a fresh id, which it returns. */
  converse(type: string, fields: readonly Field[], listener: Listener): string {
    const id = randomBytes(8).toString("hex");
    if (this.#gone) {
      listener.gone();
      return id;
    }
    this.#listeners.set(id, listener);
    this.send(type, id, ...fields);
    return id;
  }

  /** A request with one reply. `onId` lets the caller cancel it; `onFrame` hears what comes before the reply. */
  request(
    type: string,
    fields: readonly Field[],
    onId: (id: string) => void = () => {},
    onFrame?: (type: string, fields: readonly Buffer[]) => void,
  ): Promise<Reply> {
    return new Promise((resolve) => {
      const listener: Listener = {
        hear: (kind, rest) => {
          const last = kind === "done" || kind === "ok" || kind === "fail";
          if (last) resolve(parseReply(kind, rest));
          else onFrame?.(kind, rest);
          return last;
        },
        gone: () => resolve({ type: "gone" }),
      };
      onId(this.converse(type, fields, listener));
    });
  }

  /** Every conversation ends. */
  close(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#resolveReady(false);
    const listeners = [...this.#listeners.values()];
    this.#listeners.clear();
    for (const listener of listeners) listener.gone();
  }

  #receive(frame: readonly Buffer[]): void {
    const [type, id, ...fields] = frame;
    if (text(type) === "ready") {
      this.#resolveReady(true);
      return;
    }
    if (text(type) === "shell") {
      this.onShell({ pid: Number(text(id)), ticks: Number(text(fields[0])) });
      return;
    }
    const listener = this.#listeners.get(text(id));
    if (listener?.hear(text(type), fields)) this.#listeners.delete(text(id));
  }
}
