import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRock, type RockClient } from "../src/client/index.ts";
import type { Sandbox } from "../src/index.ts";
import { type TestServer, testServer } from "./server-support.ts";
import { closeDriver, obstacle, spec, suite } from "./support.ts";

let server: TestServer;
let client: RockClient;

const sandbox = (...more: Parameters<typeof spec>): Promise<Sandbox> => client.driver.create(spec(...more));

async function textOf(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe.skipIf(obstacle)(suite("the client"), () => {
  beforeAll(async () => {
    server = await testServer();
    client = connectRock({ url: server.server.url, token: server.token });
  });
  afterAll(async () => {
    await client.close();
    await server[Symbol.asyncDispose]();
    await closeDriver();
  });

  test("a sandbox made with await using is gone afterwards", async () => {
    let id = "";
    {
      await using box = await client.sandboxes.create({ image: "ale/base" });
      id = box.id;
      expect((await box.exec({ argv: ["echo", "hi"] })).stdout).toBe("hi\n");
    }
    expect((await client.sandboxes.get(id)).state).toBe("deleted");
  });

  test("errors are the AleErrors they were on the server", async () => {
    await expect(client.driver.create(spec({ image: "no/such:image" }))).rejects.toMatchObject({
      name: "AleError",
      code: expect.stringMatching(/^image-/),
      next: expect.any(String),
    });
    await expect(client.driver.attach("nobody")).rejects.toMatchObject({ code: "sandbox-unknown" });
  });

  test("a program is fed and read while it runs, byte for byte", async () => {
    await using box = await sandbox();
    const program = await box.start({ argv: ["cat"], stdin: true });
    expect(program.pid).toBeGreaterThan(0);
    const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const read = program.stdout[Symbol.asyncIterator]();
    await program.write(all);
    const first = await read.next();
    expect(Buffer.from(first.value!)).toEqual(all);
    await program.closeStdin();
    expect((await read.next()).done).toBe(true);
    expect(await program.exit).toEqual({ exitCode: 0, signal: null, reason: "exited" });
  });

  test("stdout and stderr come apart, and a signal is told", async () => {
    await using box = await sandbox();
    const program = await box.start({ argv: ["sh", "-c", "echo out; echo err >&2; exec sleep 60"] });
    const stdout = program.stdout[Symbol.asyncIterator]();
    const stderr = program.stderr[Symbol.asyncIterator]();
    expect(Buffer.from((await stdout.next()).value!).toString()).toBe("out\n");
    expect(Buffer.from((await stderr.next()).value!).toString()).toBe("err\n");
    await program.signal("SIGTERM");
    await Promise.all([stdout.next(), stderr.next()]);
    expect(await program.exit).toMatchObject({ signal: 15, reason: "exited" });
  });

  test("megabytes pass whole, at the pace of a slow reader", async () => {
    await using box = await sandbox();
    const program = await box.start({ argv: ["sh", "-c", "head -c 20000000 /dev/zero"] });
    let bytes = 0;
    for await (const chunk of program.stdout) {
      bytes += chunk.length;
      await new Promise((resolve) => setImmediate(resolve));
    }
    await textOf(program.stderr);
    expect(bytes).toBe(20_000_000);
    expect((await program.exit).exitCode).toBe(0);
  });

  test("a program that nobody reads waits, and does not fill the server", async () => {
    await using box = await sandbox();
    const program = await box.start({ argv: ["sh", "-c", "yes | head -c 200000000"] });
    const before = process.memoryUsage.rss();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(process.memoryUsage.rss() - before).toBeLessThan(64_000_000);
    const running = await box.exec({ argv: ["pgrep", "-c", "head"] });
    expect(running.stdout).toBe("1\n");
    await program.signal("SIGKILL");
  });

  test("a program ends with its connection", async () => {
    await using box = await sandbox();
    const leaving = new AbortController();
    const program = await box.start({ argv: ["sleep", "1000"] }, leaving.signal);
    const exit = Promise.all([program.exit, textOf(program.stdout), textOf(program.stderr)]);
    leaving.abort();
    expect((await exit)[0].reason).toBe("cancelled");
    const ended = await box.exec({
      argv: [
        "sh",
        "-c",
        "for i in $(seq 100); do pgrep sleep >/dev/null || exit 0; sleep 0.05; done; exit 1",
      ],
    });
    expect(ended.exitCode).toBe(0);
  });

  test("what cannot be started is an error, not a stream", async () => {
    await using box = await sandbox();
    await expect(box.start({ argv: ["/no/such/program"] })).rejects.toMatchObject({ code: "exec-failed" });
  });

  test("output can be read as server-sent events", async () => {
    await using box = await sandbox();
    const events = await server.call("POST", `/v1/sandboxes/${box.id}/exec/events`, {
      argv: ["sh", "-c", "printf 'h\\303\\244'; echo e >&2; exit 4"],
    });
    expect(events.headers.get("content-type")).toContain("text/event-stream");
    expect(events.text).toContain('event: stdout\ndata: "hä"\n');
    expect(events.text).toContain('event: stderr\ndata: "e\\n"\n');
    expect(events.text).toMatch(/event: exit\ndata: \{"exitCode":4,.*\}\n\n$/);
  });

  test("aborting a collected run ends the program", async () => {
    await using box = await sandbox();
    const leaving = new AbortController();
    const run = box.exec({ argv: ["sleep", "1000"] }, leaving.signal);
    setTimeout(() => leaving.abort(new Error("enough")), 100);
    await expect(run).rejects.toThrow("enough");
    const ended = await box.exec({
      argv: [
        "sh",
        "-c",
        "for i in $(seq 100); do pgrep sleep >/dev/null || exit 0; sleep 0.05; done; exit 1",
      ],
    });
    expect(ended.exitCode).toBe(0);
  });

  test("ended is told when a sandbox's lifetime is over", async () => {
    const box = await sandbox({ limits: { lifetimeMs: 300 } });
    expect(await box.ended).toBe("lifetime");
    expect(box.endReason).toBe("lifetime");
  });

  test("the clocks of a sandbox are the server's: what is left is told, and nothing is held", async () => {
    await using box = await sandbox({ limits: { lifetimeMs: 60_000 } });
    const { heldMs, leftMs } = await box.hold(1_000_000);
    expect(heldMs).toBe(0);
    expect(leftMs).toBeGreaterThan(30_000);
    expect(leftMs).toBeLessThan(60_000);
    await using lazy = await sandbox({ idleMs: 20_000 });
    expect((await lazy.hold(1)).leftMs).toBeLessThanOrEqual(20_000);
  });

  test("a pool keeps sandboxes ready and owns those that were not taken", async () => {
    const pool = client.driver.pool(spec(), { size: 2 });
    await pool.filled();
    expect(pool.ready).toBe(2);
    const taken = await pool.take();
    expect((await taken.exec({ argv: ["true"] })).exitCode).toBe(0);
    await pool.filled();
    await pool[Symbol.asyncDispose]();
    const running = await client.sandboxes.list({ states: ["running"] });
    expect(running.map(({ id }) => id)).toEqual([taken.id]);
    await taken.destroy();
  });

  test("a server that is not there is named, with what to do", async () => {
    await using nobody = connectRock({ url: "http://127.0.0.1:9", token: "x", retries: 1 });
    await expect(nobody.sandboxes.list()).rejects.toMatchObject({
      code: "server-unreachable",
      next: expect.stringContaining("ale rock serve"),
    });
  });
});
