import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { compatApis } from "../../packages/rock/src/compat/index.ts";
import { defaultHome, ensurePythonImage } from "../../packages/rock/src/index.ts";
import { serveRock } from "../../packages/rock/src/server/index.ts";
import { type BenchContext, measured, median, type Result } from "../benchmark.ts";

/**
 * ROCK's unmodified Python SDK against our server: how long its `start()` takes, which polls until the sandbox is alive, and how long until
 * a first program has run. Once with modest limits, once with the SDK's own (8 GB of memory, 50 GB of disk).
 */
export async function sdk(context: BenchContext): Promise<Result[]> {
  const venv = join(defaultHome(), "test", "rock-sdk");
  const run = promisify(execFile);
  await run("bash", [resolve(import.meta.dirname, "../../packages/rock/test/conformance/setup.sh"), venv]);
  await ensurePythonImage(defaultHome());
  const home = mkdtempSync(join(tmpdir(), "ale-bench-sdk-"));
  mkdirSync(home, { recursive: true });
  symlinkSync(join(defaultHome(), "images"), join(home, "images"));
  const results: Result[] = [];
  const server = await serveRock({ home, port: 0, plugins: compatApis({ home }) });
  try {
    const repeats = String(context.quick ? 5 : 30);
    for (const [memory, disk] of [
      ["512m", "128m"],
      ["8g", "50G"],
    ] as const) {
      const script = join(import.meta.dirname, "sdk-start.py");
      const argv = [script, server.url, server.firstToken ?? "", repeats, memory, disk];
      const { stdout } = await run(join(venv, "bin", "python"), argv, { maxBuffer: 2 ** 24 });
      const pairs = JSON.parse(stdout) as [number, number][];
      const limits = `${memory} of memory, ${disk} of disk`;
      const started = median(pairs.map(([one]) => one * 1000));
      results.push(
        measured(`ROCK SDK start(), ${limits}, median`, started, "ms", { atMost: 200 }),
        measured(
          `ROCK SDK start() and a first program, ${limits}, median`,
          median(pairs.map(([, two]) => two * 1000)),
          "ms",
        ),
      );
    }
  } finally {
    await server.close();
    rmSync(home, { recursive: true, force: true });
  }
  return results;
}
