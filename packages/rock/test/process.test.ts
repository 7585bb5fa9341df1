import { createHash } from "node:crypto";
import { afterAll, describe, expect, test } from "vitest";
import type { Process, Sandbox } from "../src/index.ts";
import { closeDriver, obstacle, sandbox, suite, until } from "./support.ts";

afterAll(closeDriver);

async function textOf(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const bash = (script: string): string[] => ["bash", "-c", script];

/** Runs `script` with all of its output read. */
async function finished(process: Process): Promise<{ out: string; err: string } & Awaited<Process["exit"]>> {
  const [out, err, exit] = await Promise.all([textOf(process.stdout), textOf(process.stderr), process.exit]);
  return { out, err, ...exit };
}

const hasProcess = async (box: Sandbox, name: string): Promise<boolean> => {
  const { stdout } = await box.exec({ argv: ["ps", "-e", "-o", "args="], user: "root" });
  return stdout.split("\n").includes(name);
};

describe.skipIf(obstacle)(suite("a started program"), () => {
  test("streams stdout and stderr apart and says how it ended", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("echo out; echo err >&2; exit 3") });
    expect(started.pid).toBeGreaterThan(1);
    expect(await finished(started)).toEqual({
      out: "out\n",
      err: "err\n",
      exitCode: 3,
      signal: null,
      reason: "exited",
    });
  });

  test("is heard while it runs", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("echo first; read line; echo got $line"), stdin: true });
    const reader = started.stdout[Symbol.asyncIterator]();
    expect(String((await reader.next()).value)).toBe("first\n");
    await started.write("word\n");
    expect(String((await reader.next()).value)).toBe("got word\n");
    expect(await started.exit).toMatchObject({ exitCode: 0 });
  });

  test("has directory, environment, user and empty stdin as asked", async () => {
    await using box = await sandbox({ env: { A: "spec", B: "spec" } });
    const script = "id -un; pwd; echo $A $B; cat";
    const agent = await box.start({ argv: bash(script), env: { B: "request" } });
    expect((await finished(agent)).out).toBe("agent\n/work\nspec request\n");
    const root = await box.start({ argv: bash("id -un; pwd"), user: "root", cwd: "/tmp" });
    expect((await finished(root)).out).toBe("root\n/tmp\n");
  });

  test("stays known by its small output after it has ended", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("echo out; echo err >&2") });
    await started.exit;
    expect(await textOf(started.stdout)).toBe("out\n");
    expect(await textOf(started.stderr)).toBe("err\n");
  });

  test.each([
    ["a program that is not there", ["/no/such/program"], undefined],
    ["a directory that is not there", ["true"], "/no/such/directory"],
    ["a file that is no program", ["/etc/passwd"], undefined],
  ])("%s is an exec-failed", async (_, argv, cwd) => {
    await using box = await sandbox();
    await expect(box.start({ argv, ...(cwd ? { cwd } : {}) })).rejects.toMatchObject({ code: "exec-failed" });
    expect((await box.exec({ argv: ["echo", "well"] })).stdout).toBe("well\n");
  });

  test("delivers a large output whole and in order", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("seq 2000000; seq 1000 >&2") });
    let [bytes, sum, last] = [0, 0, ""];
    const errors = textOf(started.stderr);
    for await (const chunk of started.stdout) {
      bytes += chunk.length;
      for (const byte of chunk) sum = (sum * 31 + byte) >>> 0;
      last = Buffer.from(chunk).toString("latin1").slice(-9);
    }
    let expected = 0;
    const text = Buffer.from(Array.from({ length: 2_000_000 }, (_, i) => `${i + 1}\n`).join(""));
    for (const byte of text) expected = (expected * 31 + byte) >>> 0;
    expect([bytes, sum, last]).toEqual([text.length, expected, "\n2000000\n".slice(-9)]);
    expect((await errors).split("\n").length).toBe(1_001);
    expect((await started.exit).exitCode).toBe(0);
  });

  test("waits at a full pipe for a reader that is slow, in nobody's memory", async () => {
    await using box = await sandbox();
    const script = "for i in {1..3}; do head -c 10000000 /dev/zero; echo $i > /work/progress; done";
    const started = await box.start({ argv: bash(script) });
    await box.exec({ argv: ["sleep", "0.5"] });
    // Had anyone taken it in for the absent reader, the first ten megabytes would be through.
    expect(await box.readFile("/work/progress")).toMatchObject({ ok: false });
    const rss = Number(
      (await box.exec({ argv: ["sed", "-n", "s/VmRSS: *\\(.*\\) kB/\\1/p", "/proc/1/status"] })).stdout,
    );
    expect(rss).toBeLessThan(16_384);
    let bytes = 0;
    for await (const chunk of started.stdout) bytes += chunk.length;
    expect(bytes).toBe(30_000_000);
    expect((await started.exit).exitCode).toBe(0);
  });

  test("runs on when its reader has heard enough", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("yes | head -c 5000000; echo done > /work/done; exit 4") });
    for await (const chunk of started.stdout) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(await started.exit).toMatchObject({ exitCode: 4, reason: "exited" });
    expect(await box.readFile("/work/done")).toMatchObject({ ok: true });
  });

  test("takes a large input at its own pace", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("sleep 0.3; sha256sum; echo end >&2"), stdin: true });
    const data = Buffer.alloc(5_000_000, "some text that repeats ");
    let written = false;
    const writing = started
      .write(data)
      .then(() => started.closeStdin())
      .then(() => {
        written = true;
      });
    await box.exec({ argv: ["true"] });
    expect(written).toBe(false);
    await writing;
    expect((await finished(started)).out).toBe(`${createHash("sha256").update(data).digest("hex")}  -\n`);
  });

  test("that does not read its input makes writing fail, not hang", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("exec 0<&-; sleep 0.2"), stdin: true });
    await expect(started.write(Buffer.alloc(1_000_000))).rejects.toMatchObject({ code: "stdin-closed" });
    await started.exit;
    await expect(started.write("more")).rejects.toMatchObject({ code: "stdin-closed" });
    const empty = await box.start({ argv: ["cat"] });
    await expect(empty.write("x")).rejects.toMatchObject({ code: "stdin-closed" });
  });

  test("gets signals with its whole group, and says which one it died of", async () => {
    await using box = await sandbox();
    const started = await box.start({
      argv: bash("trap 'echo caught' USR1; (trap '' USR1; exec sleep 81) & echo ready; wait; wait"),
    });
    const reader = started.stdout[Symbol.asyncIterator]();
    await reader.next();
    await started.signal("SIGUSR1");
    expect(String((await reader.next()).value)).toBe("caught\n");
    await started.signal("SIGTERM");
    expect(await started.exit).toEqual({ exitCode: 143, signal: 15, reason: "exited" });
    expect(await hasProcess(box, "sleep 81")).toBe(false);
    await started.signal("SIGTERM");
  });

  test("ends with its descendants at the deadline", async () => {
    await using box = await sandbox();
    const script = "echo began; (setsid sleep 82 &); trap '' TERM INT; sleep 83 & sleep 84";
    const started = await box.start({ argv: bash(script), timeoutMs: 300 });
    expect(await finished(started)).toMatchObject({ out: "began\n", exitCode: null, reason: "timeout" });
    for (const name of ["sleep 82", "sleep 83", "sleep 84"]) expect(await hasProcess(box, name)).toBe(false);
  });

  test("ends when its signal aborts, before or while it runs", async () => {
    await using box = await sandbox();
    const abort = new AbortController();
    const started = await box.start({ argv: ["sleep", "85"] }, abort.signal);
    abort.abort();
    expect(await started.exit).toMatchObject({ exitCode: null, reason: "cancelled" });
    await expect(box.start({ argv: ["true"] }, abort.signal)).rejects.toThrow();
  });

  test("does not wait for what it leaves in the background", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: bash("sleep 86 & echo done") });
    expect(await finished(started)).toMatchObject({ out: "done\n", exitCode: 0 });
  });

  test("says when the sandbox went under it", async () => {
    const box = await sandbox();
    const started = await box.start({ argv: bash("echo on; sleep 87"), stdin: true });
    const all = finished(started);
    await until("it speaks", () => started.pid > 0);
    await box.destroy();
    expect(await all).toMatchObject({ exitCode: null, reason: "sandbox-gone" });
    await expect(started.write("x")).rejects.toMatchObject({ code: "stdin-closed" });
    await expect(box.start({ argv: ["true"] })).rejects.toMatchObject({ code: "sandbox-gone" });
  });

  test("says when all processes of the agent were ended", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: ["sleep", "88"] });
    await box.killAgentProcesses();
    expect(await started.exit).toMatchObject({ exitCode: null, signal: 9, reason: "killed" });
  });

  test("two hundred at once neither mix nor hang, and leave PID 1 small", async () => {
    await using box = await sandbox({ limits: { pids: 500 } });
    const wanted = Array.from({ length: 200 }, (_, i) => i);
    const results = await Promise.all(
      wanted.map(async (i) => {
        const started = await box.start({ argv: ["sh", "-c", `cat; echo ${i}`], stdin: true });
        await started.write(`in ${i}\n`);
        await started.closeStdin();
        return finished(started);
      }),
    );
    expect(results.map((result) => result.out)).toEqual(wanted.map((i) => `in ${i}\n${i}\n`));
    const { stdout } = await box.exec({
      argv: bash("ls /proc/1/fd | wc -l; grep VmRSS /proc/1/status"),
      user: "root",
    });
    expect(Number(/VmRSS:\s+(\d+)/.exec(stdout)?.[1])).toBeLessThan(24_576);
  });

  test("is refused with its reason where no process is left", async () => {
    await using box = await sandbox({ limits: { pids: 8 } });
    await box.shell.run("for i in {1..7}; do sleep 60 & done");
    await expect(box.start({ argv: ["true"] })).rejects.toMatchObject({
      code: "exec-failed",
      message: expect.stringContaining("cannot start a process"),
    });
  });

  test("exec takes bytes of any kind and size as stdin", async () => {
    await using box = await sandbox();
    const data = Buffer.alloc(3_000_000, Buffer.from([0, 255, 10, 128]));
    expect((await box.exec({ argv: ["wc", "-c"], stdin: data })).stdout).toBe("3000000\n");
    expect((await box.exec({ argv: ["od", "-An", "-tx1"], stdin: new Uint8Array([0, 255]) })).stdout).toBe(
      " 00 ff\n",
    );
    expect((await box.exec({ argv: ["true"], stdin: data })).exitCode).toBe(0);
  });
});
