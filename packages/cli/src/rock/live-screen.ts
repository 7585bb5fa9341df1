import { setTimeout as sleep } from "node:timers/promises";

/** The whole terminal, redrawn in place. As it was before when this is disposed of, or when the process ends. */
export class LiveScreen implements Disposable {
  readonly #undo: (() => void)[] = [];
  #wake: AbortController | undefined;

  constructor() {
    const { stdin, stdout } = process;
    stdout.write("\u001b[?1049h\u001b[?25l");
    stdin.setRawMode(true);
    stdin.resume();
    const restore = (): void => {
      stdin.setRawMode(false);
      stdout.write("\u001b[?25h\u001b[?1049l");
    };
    process.on("exit", restore);
    this.#undo.push(() => {
      process.off("exit", restore);
      restore();
      stdin.pause();
    });
  }

  get size(): { readonly cols: number; readonly rows: number } {
    return { cols: process.stdout.columns ?? 80, rows: process.stdout.rows ?? 24 };
  }

  /** Each line is to fit already; there are never more than rows. */
  draw(lines: readonly string[]): void {
    const shown = lines.slice(0, this.size.rows);
    process.stdout.write(`\u001b[H${shown.map((line) => `${line}\u001b[K`).join("\r\n")}\u001b[J`);
  }

  onKey(handler: (key: string) => void): void {
    const listener = (chunk: Buffer): void => {
      handler(chunk.toString("utf8"));
      this.#wake?.abort();
    };
    process.stdin.on("data", listener);
    this.#undo.push(() => process.stdin.off("data", listener));
  }

  onResize(handler: () => void): void {
    process.stdout.on("resize", handler);
    this.#undo.push(() => process.stdout.off("resize", handler));
  }

  /** Until the time is over, the signal, or a key. */
  async pause(ms: number, signal: AbortSignal): Promise<void> {
    this.#wake = new AbortController();
    await sleep(ms, undefined, { signal: AbortSignal.any([signal, this.#wake.signal]) }).catch(() => {});
  }

  [Symbol.dispose](): void {
    for (const undo of this.#undo.reverse()) undo();
    this.#undo.length = 0;
  }
}
