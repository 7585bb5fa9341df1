import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Order } from "./daemon.ts";
import type { World } from "./world.ts";

type Answer = Readonly<Record<string, unknown>> & { readonly error?: string };

/** A daemon in the host's network of a world. Orders are answered in order. */
export class Daemon implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<void>;
  #waiting: ((answer: Answer) => void)[] = [];
  #errors = "";

  private constructor(world: World, home: string) {
    const program = [
      process.execPath,
      "--disable-warning=ExperimentalWarning",
      join(import.meta.dirname, "daemon.ts"),
      home,
    ];
    this.#child = spawn("nsenter", [`--net=${world.hostNetwork}`, ...program], { stdio: "pipe" });
    this.#child.stderr.on("data", (chunk: Buffer) => {
      this.#errors += chunk.toString();
    });
    createInterface({ input: this.#child.stdout }).on("line", (line) =>
      this.#waiting.shift()?.(JSON.parse(line) as Answer),
    );
    this.#closed = new Promise((resolve) => this.#child.once("close", () => resolve()));
    void this.#closed.then(() => {
      for (const tell of this.#waiting.splice(0)) tell({ error: `the daemon ended: ${this.#errors}` });
    });
  }

  static async start(world: World, home: string): Promise<Daemon> {
    const daemon = new Daemon(world, home);
    await daemon.#answer();
    return daemon;
  }

  async ask<T>(order: Order): Promise<T> {
    const answer = this.#answer();
    this.#child.stdin.write(`${JSON.stringify(order)}\n`);
    return (await answer) as T;
  }

  async #answer(): Promise<Answer> {
    const answer = await new Promise<Answer>((resolve) => this.#waiting.push(resolve));
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  /** SIGSTOP: it hangs. SIGKILL: it crashes. */
  async signal(name: "SIGSTOP" | "SIGCONT" | "SIGKILL"): Promise<void> {
    this.#child.kill(name);
    if (name === "SIGKILL") await this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.signal("SIGKILL");
  }
}
