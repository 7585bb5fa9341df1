import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dropLayer } from "../src/image/layers.ts";
import { listNames, removeName } from "../src/image/names.ts";
import { openStore, stage } from "../src/image/store.ts";
import { loadImage } from "../src/image/stored-image.ts";
import { type DurableOciDriver, defaultHome, ensurePythonImage, openOciDriver } from "../src/index.ts";
import { type CompatServer, compatServer } from "./compat-support.ts";
import { freshHome, obstacle } from "./support.ts";

/**
 * ROCK's own Python SDK, unmodified, against a real server: `conformance/cases_*.py`, of which every function is one test here. The SDK lies in
 * a virtual environment that `conformance/setup.sh` makes.
 */

const HERE = join(import.meta.dirname, "conformance");
const SDK = process.env.ALE_ROCK_SDK ?? join(defaultHome(), "test", "rock-sdk");
const why =
  obstacle ?? (existsSync(join(SDK, "ready")) ? undefined : `no SDK: run ${join(HERE, "setup.sh")}`);

const names = readdirSync(HERE)
  .filter((file) => /^cases_.*\.py$/.test(file))
  .sort()
  .flatMap((file) => [...readFileSync(join(HERE, file), "utf8").matchAll(/^async def (test_\w+)/gm)])
  .map((match) => match[1]!);

interface Outcome {
  readonly name: string;
  /** The traceback, or null. */
  readonly error: string | null;
}

describe.skipIf(why)(`ROCK's SDK${why ? ` (skipped: ${why})` : ""}`, () => {
  let home: Awaited<ReturnType<typeof freshHome>>;
  let driver: DurableOciDriver;
  let server: CompatServer;
  const outcomes = new Map<string, Outcome>();

  beforeAll(async () => {
    await ensurePythonImage(defaultHome());
    home = await freshHome();
    driver = openOciDriver({ home: home.path, durable: "served" });
    server = await compatServer({ driver });
    for await (const outcome of runCases(server.url)) outcomes.set(outcome.name, outcome);
  }, 300_000);

  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await driver?.[Symbol.asyncDispose]();
    home?.[Symbol.dispose]();
    forgetCommitted();
  }, 60_000);

  test.each(names)("%s", (name) => {
    expect(outcomes.get(name), "did not run").toBeDefined();
    expect(outcomes.get(name)!.error ?? "").toBe("");
  });
});

async function* runCases(url: string): AsyncGenerator<Outcome> {
  const child = spawn(join(SDK, "bin", "python"), [join(HERE, "harness.py"), url, "t-a"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" },
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => (stderr = `${stderr}${chunk}`.slice(-4_000)));
  for await (const line of createInterface({ input: child.stdout })) yield JSON.parse(line) as Outcome;
  if (child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve));
  expect(child.exitCode, stderr).toBe(0);
}

/** Images that a case made of a sandbox, with the layer that is theirs alone. */
function forgetCommitted(): void {
  const store = openStore(defaultHome());
  for (const { name, target } of listNames(store)) {
    if (!name.startsWith("private.invalid/") || target.type !== "image") continue;
    const layer = loadImage(store, target.manifest as `sha256:${string}`)?.config.rootfs.diff_ids.at(-1);
    removeName(store, name);
    using place = stage(store);
    if (layer !== undefined) dropLayer(store, place, layer);
  }
}
