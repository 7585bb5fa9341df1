import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Limits } from "../../packages/core/src/index.ts";
import { BASE_IMAGE, type SandboxSpec } from "../../packages/rock/src/index.ts";

/** What the parts share: a plain spec, a shell to give orders to, timing. */

export const plain = (limits: Partial<Limits> = {}): SandboxSpec => ({
  image: BASE_IMAGE,
  files: [],
  network: { mode: "none" },
  workdir: "/work",
  limits: Limits.parse({ lifetimeMs: 3_600_000, execTimeoutMs: 60_000, ...limits }),
});

export const scratch = (): string => mkdtempSync(join(tmpdir(), "ale-bench-rock-"));

export async function timed(task: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await task();
  return performance.now() - startedAt;
}

/** `width` workers, each doing its share of `count` tasks. Milliseconds of each task. */
export async function spread(
  count: number,
  width: number,
  task: (i: number) => Promise<number>,
): Promise<number[]> {
  const times: number[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) times.push(await task(next++));
  };
  await Promise.all(Array.from({ length: width }, worker));
  return times;
}

export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((p / 100) * sorted.length))] ?? Number.NaN;
}

const ANSWER_MS = 20_000;

/** A shell that starts programs for the references, so that they do not pay for the spawn of a large Node process. */
export class OrderShell {
  readonly #child: ChildProcessWithoutNullStreams;
  #buffer = "";
  #waiting: ((line: string) => void)[] = [];

  constructor(argv: readonly string[]) {
    const [program, ...rest] = argv;
    this.#child = spawn(program!, rest, { stdio: "pipe" });
    this.#child.stderr.resume();
    this.#child.stdout.on("data", (chunk: Buffer) => {
      this.#buffer += chunk.toString();
      for (let end = this.#buffer.indexOf("\n"); end >= 0; end = this.#buffer.indexOf("\n")) {
        const line = this.#buffer.slice(0, end);
        this.#buffer = this.#buffer.slice(end + 1);
        this.#waiting.shift()?.(line);
      }
    });
  }

  /** Gives an order that prints one line, and waits for the line. */
  line(order: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to: ${order}`)), ANSWER_MS);
      this.#waiting.push((line) => {
        clearTimeout(timer);
        resolve(line);
      });
      this.#child.stdin.write(`${order}\n`);
    });
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#child.once("close", () => resolve()));
    this.#child.stdin.end();
    await closed;
  }
}
