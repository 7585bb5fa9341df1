import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { defaultHome } from "../../packages/rock/src/index.ts";
import type { BenchContext } from "../benchmark.ts";

/** ROCK's own server inside a sandbox, from its package, unmodified, in a virtual environment of the benchmarks. It runs unsandboxed here. */
export interface Rocklet {
  run(command: string): Promise<void>;
  close(): Promise<void>;
}

const VERSION = "1.11.0";
const NEEDS = [
  `rl-rock==${VERSION}`,
  "fastapi",
  "uvicorn",
  "pexpect",
  "bashlex",
  "psutil",
  "twisted",
  "gem-llm",
  "numpy<=2.2.6",
];

/** Null where it cannot be installed; then there is nothing to compare with, and the figure is left out. */
export async function openRocklet(context: BenchContext): Promise<Rocklet | null> {
  const venv = join(defaultHome(), "bench", "rocklet");
  if (!existsSync(join(venv, "bin", "rocklet"))) {
    context.say("  installing ROCK's rocklet …");
    try {
      await promisify(execFile)("python3", ["-m", "venv", venv]);
      await promisify(execFile)(join(venv, "bin", "pip"), ["install", "-q", ...NEEDS], {
        maxBuffer: 2 ** 26,
      });
    } catch (error) {
      context.say(
        `  ROCK's rocklet cannot be installed: ${error instanceof Error ? error.message.slice(0, 300) : error}`,
      );
      rmSync(venv, { recursive: true, force: true });
      return null;
    }
  }
  context.version("rl-rock", VERSION);
  return startRocklet(venv);
}

async function startRocklet(venv: string): Promise<Rocklet> {
  const scratch = mkdtempSync(join(tmpdir(), "ale-rocklet-"));
  const port = await freePort();
  const child = spawn(join(venv, "bin", "rocklet"), ["--host", "127.0.0.1", "--port", String(port)], {
    stdio: "ignore",
    cwd: scratch,
    env: { ...process.env, ROCK_LOGGING_PATH: scratch, ROCK_SERVICE_STATUS_DIR: scratch },
  });
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const post = async (route: string, body: object): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${port}/${route}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sandbox_id: "bench", session: "bench", ...body }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`rocklet ${route}: ${answer.status} ${text.slice(0, 300)}`);
  };
  for (let tries = 0; ; tries++) {
    try {
      await post("create_session", { session_type: "bash" });
      break;
    } catch (error) {
      if (tries > 150) throw error;
      await sleep(200);
    }
  }
  return {
    run: (command) => post("run_in_session", { action_type: "bash", command, check: "silent" }),
    close: async () => {
      child.kill("SIGKILL");
      await closed;
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
