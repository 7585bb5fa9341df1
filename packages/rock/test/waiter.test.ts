import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeFrame } from "../src/inside/control.ts";
import { waiterProgram } from "../src/inside/waiter.ts";

const program = waiterProgram();
const directory = mkdtempSync(join(tmpdir(), "ale-waiter-"));
const path = join(directory, "wait");

beforeAll(() => {
  if (program !== undefined) writeFileSync(path, program, { mode: 0o755 });
});
afterAll(() => rmSync(directory, { recursive: true }));

class Waiting implements Disposable {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  #said = Buffer.alloc(0);

  constructor(...argv: string[]) {
    this.child = spawn(path, argv, { stdio: ["pipe", "pipe", "inherit"], env: { GIVEN: "environment" } });
    this.child.stdout!.on("data", (chunk: Buffer) => {
      this.#said = Buffer.concat([this.#said, chunk]);
    });
    this.ended = new Promise((resolve) => this.child.once("close", resolve));
  }

  async said(length: number): Promise<Buffer> {
    await expect.poll(() => this.#said.length, { timeout: 20_000 }).toBeGreaterThanOrEqual(length);
    return this.#said;
  }

  [Symbol.dispose](): void {
    this.child.kill("SIGKILL");
  }
}

const READY = 13;

describe.skipIf(program === undefined)("what waits in the place of PID 1", () => {
  test("says that it is there in a frame, and takes next to no memory", async () => {
    using waiting = new Waiting("/bin/echo");
    expect(decodeFrame((await waiting.said(READY)).subarray(4)).map(String)).toEqual(["ready"]);
    const status = readFileSync(`/proc/${waiting.child.pid}/smaps_rollup`, "utf8");
    expect(Number(/^Private_Dirty:\s+(\d+)/m.exec(status)?.[1])).toBeLessThan(32);
  });

  test("becomes the program that its arguments name, which reads all that was written", async () => {
    using waiting = new Waiting(
      "/bin/sh",
      "-c",
      'read line; printf "%s %s %s %s" "$line" "$GIVEN" "$@"',
      "sh",
      "a",
      "b c",
    );
    await waiting.said(READY);
    waiting.child.kill("SIGSTOP");
    waiting.child.kill("SIGCONT");
    waiting.child.stdin!.write("hello\n");
    expect(await waiting.ended).toBe(0);
    expect((await waiting.said(READY)).toString("latin1", READY)).toBe("hello environment a b c");
  });

  test("ends when whoever started it is gone, and where there is no such program", async () => {
    using left = new Waiting("/bin/echo", "not this");
    await left.said(READY);
    left.child.stdin!.destroy();
    expect(await left.ended).toBe(127);
    expect((await left.said(READY)).length).toBe(READY);
    using wrong = new Waiting("/nowhere/program");
    wrong.child.stdin!.write("x");
    expect(await wrong.ended).toBe(127);
  });
});
