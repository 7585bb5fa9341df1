/** Bytes on their way from a connection to whoever iterates. The writer waits while much is unread; once the reader left, all is dropped. */

const WINDOW_BYTES = 256 * 1_024;

export class Channel implements AsyncIterable<Uint8Array> {
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #abandoned = false;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;
  readonly #drained = Promise.withResolvers<void>();

  /** Resolves when it has ended and all was read or dropped. */
  get drained(): Promise<void> {
    return this.#drained.promise;
  }

  async push(chunk: Uint8Array): Promise<void> {
    if (this.#abandoned || chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    this.#wakeReader?.();
    while (this.#bytes > WINDOW_BYTES && !this.#abandoned)
      await new Promise<void>((resolve) => {
        this.#wakeWriter = resolve;
      });
  }

  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
    if (this.#chunks.length === 0) this.#drained.resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk !== undefined) {
          this.#bytes -= chunk.length;
          this.#wakeWriter?.();
          yield chunk;
        } else if (this.#ended) return;
        else
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
      }
    } finally {
      this.#abandoned = true;
      this.#chunks = [];
      this.#wakeWriter?.();
      this.#drained.resolve();
    }
  }
}
