import { readdirSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import type { Tree } from "../src/files/tree.ts";
import { changesBelow } from "../src/files/watch.ts";
import type { FileChange, Sandbox } from "../src/index.ts";
import { closeDriver, file, isOtherDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

/** Gathers changes until one of them is the last that is waited for. */
class Seen {
  readonly all: string[] = [];
  readonly #ending = new AbortController();
  readonly #done: Promise<void>;
  #wake: () => void = () => {};

  constructor(box: Sandbox, path: string, recursive: boolean) {
    this.#done = this.#gather(box.files.watch(path, { recursive }, this.#ending.signal));
  }

  async #gather(changes: AsyncIterable<FileChange>): Promise<void> {
    for await (const { type, path } of changes) {
      this.all.push(`${type} ${path}`);
      this.#wake();
    }
  }

  async until(change: string): Promise<string[]> {
    while (!this.all.includes(change)) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.all;
  }

  async end(): Promise<void> {
    this.#ending.abort();
    await this.#done;
  }

  get ended(): Promise<void> {
    return this.#done;
  }
}

/** The watch is on once a change is seen. */
async function watching(box: Sandbox, path: string, recursive = true): Promise<Seen> {
  await box.files.makeDirectory(path);
  const seen = new Seen(box, path, recursive);
  for (let n = 0; seen.all.length === 0; n++) {
    await box.files.write(`${path}/begin${n}`, "");
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return seen;
}

describe.skipIf(obstacle)(suite("a watch of a sandbox's files"), () => {
  test("tells what appears, changes, moves and goes, in directories that appear as well", async () => {
    await using box = await sandbox();
    const seen = await watching(box, "/work");
    await box.shell.run("mkdir -p a/b; echo 1 > a/b/f");
    await seen.until("created /work/a/b/f");
    await box.shell.run("echo 2 >> a/b/f; mv a/b/f a/g; mv a c");
    await seen.until("created /work/c/g");
    await box.shell.run("echo 3 > c/g; rm -r c; touch last");
    const all = await seen.until("created /work/last");
    for (const change of [
      "created /work/a",
      "created /work/a/b",
      "created /work/a/b/f",
      "changed /work/a/b/f",
      "removed /work/a/b/f",
      "created /work/a/g",
      "removed /work/a",
      "created /work/c",
      "changed /work/c/g",
      "removed /work/c/g",
      "removed /work/c",
    ])
      expect(all).toContain(change);
    await seen.end();
  });

  test("that is not recursive tells of the directory's own entries only", async () => {
    await using box = await sandbox();
    await box.shell.run("mkdir d");
    const seen = await watching(box, "/work", false);
    await box.shell.run("touch d/hidden; touch shown");
    expect((await seen.until("created /work/shown")).join()).not.toContain("hidden");
    await seen.end();
  });

  test("of one file ends with it", async () => {
    await using box = await sandbox({ files: [file("/work/f", "1")] });
    const seen = new Seen(box, "/work/f", false);
    const writing = setInterval(() => void box.files.write("/work/f", "2"), 30);
    await seen.until("changed /work/f");
    clearInterval(writing);
    await box.shell.run("rm f");
    await seen.ended;
    expect(seen.all.at(-1)).toBe("removed /work/f");
  });

  test("ends with what is watched, with the signal, and with the sandbox, and leaves nothing", async () => {
    const box = await sandbox();
    const before = readdirSync("/proc/self/fd").length;
    const byDirectory = await watching(box, "/work/d");
    await box.shell.run("rm -r d");
    await byDirectory.ended;
    const bySignal = await watching(box, "/work/e");
    await bySignal.end();
    expect(readdirSync("/proc/self/fd").length).toBe(before);
    const bySandbox = await watching(box, "/work/f");
    await box.destroy();
    await bySandbox.ended;
  });

  test("does not count as reading", async () => {
    await using box = await sandbox({ files: [file("/work/secret", "x")] });
    const seen = await watching(box, "/work");
    expect((await box.fingerprint(["/work/secret"]))[0]!.wasRead).toBe(false);
    await seen.end();
  });

  test("says when more happened than it could follow", async () => {
    await using box = await sandbox({
      limits: { cpus: 2, diskBytes: 2 ** 27, memoryBytes: 2 ** 28, execTimeoutMs: 60_000 },
    });
    const changes = box.files.watch("/work", {}, AbortSignal.timeout(30_000))[Symbol.asyncIterator]();
    const first = changes.next();
    await box.shell.run("touch a");
    expect((await first).value).toMatchObject({ path: "/work/a" });
    // Nobody reads now, and the kernel keeps 16,384 events by default.
    await box.exec({
      argv: [
        "perl",
        "-e",
        "for (1..20000) { open F, '>', $_ & 1 ? 'x' : 'y'; close F; unlink $_ & 1 ? 'x' : 'y' }",
      ],
      cwd: "/work",
    });
    const types = new Set<string>();
    while (!types.has("lost")) types.add((await changes.next()).value!.type);
    await changes.return?.();
  });

  test.skipIf(isOtherDriver())("follows no more directories than it may, and says so", async () => {
    await using box = await sandbox();
    await box.shell.run("mkdir a b c");
    const { tree } = (box as unknown as { container: { tree: Tree } }).container;
    const reads = { unseen: <T>(work: () => T): T => work() };
    const options = { recursive: true, maxDirectories: 3 };
    const changes = changesBelow({ tree, reads }, "/work", options, AbortSignal.timeout(10_000));
    expect((await changes.next()).value).toMatchObject({ type: "lost" });
    await changes.return();
  });
});
