import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { connectTinker, locateEngine, scoringDatum, startEngine } from "../src/index.ts";
import { located, type Scratch, scratchEngine, skipReason } from "./nano-engine.ts";

let scratch: Scratch;
afterEach(() => scratch?.remove());

/** An interpreter that does what a broken installation does. */
function brokenPython(script: string): string {
  scratch = scratchEngine();
  const path = join(scratch.directory, "python");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

const isAlive = (pid: number): boolean => {
  try {
    // A zombie still answers to signal 0; it holds nothing any more.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

async function goneWithin(pid: number, ms: number): Promise<boolean> {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(50)) if (!isAlive(pid)) return true;
  return false;
}

describe("finding the engine's Python", () => {
  test("ALE_ENGINE_PYTHON wins, and is named when it is wrong", () => {
    const chosen = locateEngine("/nowhere", { ALE_ENGINE_PYTHON: process.execPath });
    expect(chosen).toMatchObject({ ok: true, value: { python: process.execPath } });
    const wrong = locateEngine("/nowhere", { ALE_ENGINE_PYTHON: "/nowhere/python" });
    expect(wrong).toMatchObject({
      ok: false,
      error: { code: "engine-missing", next: expect.stringContaining("ALE_ENGINE_PYTHON") },
    });
  });

  test("one that may not be run is not called missing", () => {
    const python = brokenPython("exit 0");
    chmodSync(python, 0o600);
    expect(locateEngine("/nowhere", { ALE_ENGINE_PYTHON: python })).toMatchObject({
      ok: false,
      error: { message: expect.stringContaining("may not be run by this user") },
    });
  });

  test("without it the home's virtual environment is taken, and setup is the remedy when there is none", () => {
    const missing = locateEngine("/nowhere", {});
    expect(missing).toMatchObject({
      ok: false,
      error: {
        code: "engine-missing",
        message: expect.stringContaining("/nowhere/engine/venv/bin/python"),
        next: expect.stringContaining("ale setup"),
      },
    });
  });
});

describe("an engine that does not start", () => {
  test.skipIf(process.getuid?.() !== 0)("a full disk: disk-full at once, and nothing is left", async () => {
    scratch = scratchEngine();
    const { stateDir } = scratch.options;
    mkdirSync(stateDir, { recursive: true });
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=16k", "none", stateDir]).status).toBe(0);
    try {
      expect(() => writeFileSync(join(stateDir, "fill"), Buffer.alloc(2 ** 20))).toThrow("ENOSPC");
      await expect(startEngine(scratch.options)).rejects.toMatchObject({ code: "disk-full" });
      expect(readdirSync(stateDir)).toEqual(["fill"]);
    } finally {
      spawnSync("umount", [stateDir]);
    }
  });

  test("no such interpreter: engine-missing", async () => {
    scratch = scratchEngine({ python: "/nowhere/python" });
    await expect(startEngine(scratch.options)).rejects.toMatchObject({
      code: "engine-missing",
      next: expect.stringContaining("./quickstart"),
    });
  });

  test("packages that cannot be imported: engine-broken, with the name and the remedy", async () => {
    const python = brokenPython(`echo "ModuleNotFoundError: No module named 'torch'" >&2; exit 1`);
    await expect(startEngine({ ...scratch.options, python })).rejects.toMatchObject({
      code: "engine-broken",
      message: expect.stringContaining("No module named 'torch'"),
      next: expect.stringContaining("ale setup"),
    });
  });

  test("a crash: engine-crashed, with the end of what it said and where the log is", async () => {
    const python = brokenPython("echo 'Segmentation fault in libsomething' >&2; exit 139");
    await expect(startEngine({ ...scratch.options, python })).rejects.toMatchObject({
      code: "engine-crashed",
      message: expect.stringContaining("Segmentation fault in libsomething"),
      next: expect.stringContaining(scratch.options.logPath),
    });
  });

  test("silence: engine-slow, and the process is gone", async () => {
    const python = brokenPython(`echo $$ > "${join("$(dirname $0)", "pid")}"; exec sleep 60`);
    await expect(startEngine({ ...scratch.options, python, startTimeoutMs: 300 })).rejects.toMatchObject({
      code: "engine-slow",
    });
    expect(isAlive(Number(readFileSync(join(scratch.directory, "pid"), "utf8")))).toBe(false);
  });

  test("an abort while it starts: the reason of the signal, and the process is gone", async () => {
    const python = brokenPython(`echo $$ > "${join("$(dirname $0)", "pid")}"; exec sleep 60`);
    const reason = new Error("Ctrl-C");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 300);
    await expect(startEngine({ ...scratch.options, python }, controller.signal)).rejects.toBe(reason);
    expect(isAlive(Number(readFileSync(join(scratch.directory, "pid"), "utf8")))).toBe(false);
  });
});

// Importing torch takes seconds, many on a busy machine.
describe.skipIf(!located.ok)(`the engine's process${skipReason}`, { timeout: 120_000 }, () => {
  test("starts, answers, and is gone after stop, which may be called twice", async () => {
    scratch = scratchEngine();
    const engine = await startEngine(scratch.options);
    const client = connectTinker({ baseUrl: engine.baseUrl });
    await client.health();
    client.close();
    await engine.stop();
    await engine.stop();
    expect(isAlive(engine.pid)).toBe(false);
    expect(await engine.exited).toMatchObject({ code: 0 });
  });

  test("a taken port: engine-port-taken", async () => {
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, "127.0.0.1", resolve));
    const { port } = squatter.address() as { port: number };
    scratch = scratchEngine({ port });
    await expect(startEngine(scratch.options)).rejects.toMatchObject({
      code: "engine-port-taken",
      message: expect.stringContaining(String(port)),
    });
    await new Promise((resolve) => squatter.close(resolve));
  });

  test("when it is killed in the middle of a call, the call fails at once with engine-died", async () => {
    scratch = scratchEngine();
    const engine = await startEngine(scratch.options);
    const client = connectTinker({ baseUrl: engine.baseUrl, died: engine.died });
    const model = await (await client.createSession()).createModel({ baseModel: "nano" });
    const long = Array.from({ length: 120 }, (_, t) => t % 64);
    const pending = model.forward(new Array(400).fill(scoringDatum(long)));
    setTimeout(() => process.kill(engine.pid, "SIGKILL"), 100);
    const started = performance.now();
    await expect(pending).rejects.toMatchObject({
      code: "engine-died",
      message: expect.stringContaining("memory"),
    });
    expect(performance.now() - started).toBeLessThan(3_000);
    client.close();
  });

  test("it ends itself when we are killed without a chance to stop it", async () => {
    scratch = scratchEngine();
    const source = `
      import { startEngine } from ${JSON.stringify(join(import.meta.dirname, "..", "src", "index.ts"))};
      const engine = await startEngine(JSON.parse(process.argv[1]));
      console.log(engine.pid);
      setInterval(() => {}, 1000);`;
    const child = spawn(
      process.execPath,
      ["--input-type=module", "-e", source, JSON.stringify(scratch.options)],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    const pid = await new Promise<number>((resolve, reject) => {
      child.stdout.once("data", (data: Buffer) => resolve(Number(data)));
      child.once("exit", (code) => reject(new Error(`the starter ended with code ${code}`)));
    });
    expect(isAlive(pid)).toBe(true);
    child.kill("SIGKILL");
    expect(await goneWithin(pid, 10_000)).toBe(true);
  });
});
