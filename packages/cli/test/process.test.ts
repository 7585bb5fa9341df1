import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { EXIT } from "../src/exit-codes.ts";
import { temporaryHome } from "./support.ts";

const MAIN = resolve(import.meta.dirname, "../src/main.ts");

/** `ale doctor` with an engine that takes half a minute to answer, caught in the middle. */
async function interrupted(
  signal: NodeJS.Signals,
): Promise<{ exitCode: number | null; stderr: string; enginePid: number }> {
  const home = await temporaryHome();
  const engine = join(home, "slow-python");
  await writeFile(engine, `#!/bin/sh\necho $$ > ${home}/engine.pid\nexec sleep 30\n`);
  await chmod(engine, 0o755);
  const child = spawn(process.execPath, [MAIN, "doctor"], {
    env: { ...process.env, ALE_HOME: home, ALE_ENGINE_PYTHON: engine },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (data) => {
    stderr += String(data);
  });
  let pid = "";
  while (pid === "") {
    await sleep(20);
    pid = await readFile(`${home}/engine.pid`, "utf8").catch(() => "");
  }
  child.kill(signal);
  const [exitCode] = (await once(child, "close")) as [number | null];
  return { exitCode, stderr, enginePid: Number(pid) };
}

/** Waits up to two seconds for it to be gone. A zombie is: whoever adopted it collects it in its own time. */
async function isGone(pid: number): Promise<boolean> {
  for (let i = 0; i < 100; i++) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    if (stat === "" || /\) Z /.test(stat)) return true;
    await sleep(20);
  }
  return false;
}

describe("the process", () => {
  it("ends with 130 on Ctrl-C, says so, and leaves no process behind", async () => {
    const { exitCode, stderr, enginePid } = await interrupted("SIGINT");
    expect(exitCode).toBe(EXIT.interrupted);
    expect(stderr).toContain("interrupted");
    expect(await isGone(enginePid)).toBe(true);
  });

  it("ends with 143 when it is asked to", async () => {
    expect((await interrupted("SIGTERM")).exitCode).toBe(EXIT.terminated);
  });
});
