import { Duplex } from "node:stream";

/**
 * An attached container's streams as the engine sends them: frames of a stream number (1 stdout, 2 stderr), three zero bytes and a
 * 32-bit length. What is written goes to the container's stdin as it is.
 */

const HEADER = 8;
/** No engine sends nearly as much in one frame. */
const MAX_FRAME = 64 * 2 ** 20;

export type StreamFrame = { readonly stream: "stdout" | "stderr"; readonly bytes: Buffer };

/** Cuts the connection's bytes into pieces of streams; a frame may be handed on in several pieces. Throws on malformed ones. */
export class Demultiplexer {
  #header = Buffer.alloc(0);
  #left = 0;
  #stream: StreamFrame["stream"] = "stdout";

  *push(chunk: Buffer): Generator<StreamFrame> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left === 0) {
        const wanted = HEADER - this.#header.length;
        this.#header = Buffer.concat([this.#header, chunk.subarray(at, at + wanted)]);
        at += wanted;
        if (this.#header.length < HEADER) return;
        this.#open(this.#header);
        this.#header = Buffer.alloc(0);
        continue;
      }
      const bytes = chunk.subarray(at, at + this.#left);
      this.#left -= bytes.length;
      at += bytes.length;
      yield { stream: this.#stream, bytes };
    }
  }

  #open(header: Buffer): void {
    const [kind, ...zeros] = header.subarray(0, 4);
    if ((kind !== 1 && kind !== 2) || zeros.some((zero) => zero !== 0))
      throw new RangeError("the engine's stream lost its frames");
    this.#stream = kind === 1 ? "stdout" : "stderr";
    this.#left = header.readUInt32BE(4);
    if (this.#left > MAX_FRAME) throw new RangeError(`a frame of ${this.#left} bytes`);
  }
}

/** The container's stdin and stdout as one stream; `onStderr` gets the rest. Ends and is destroyed with the connection. */
export function standardStreams(connection: Duplex, onStderr: (bytes: Buffer) => void): Duplex {
  const frames = new Demultiplexer();
  const streams = new Duplex({
    read: () => void connection.resume(),
    write: (chunk: Buffer, _encoding, done) => {
      if (connection.write(chunk)) done();
      else connection.once("drain", done);
    },
    final: (done) => {
      connection.end();
      done();
    },
    destroy: (error, done) => {
      connection.destroy();
      done(error);
    },
  });
  connection.on("data", (chunk: Buffer) => {
    try {
      for (const { stream, bytes } of frames.push(chunk)) {
        if (stream === "stderr") onStderr(bytes);
        else if (!streams.push(bytes)) connection.pause();
      }
    } catch (error) {
      streams.destroy(error as Error);
    }
  });
  connection.on("end", () => void streams.push(null));
  connection.on("error", (error) => void streams.destroy(error));
  connection.on("close", () => void streams.destroy());
  return streams;
}
