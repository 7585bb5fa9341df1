import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Limits } from "@ale/core";
import { BASE_IMAGE, defaultHome, ensureBaseImage, OciDriver, type SandboxSpec } from "@ale/rock";

/**
 * What snapshots, forks, pools and storms cost: `node benchmarks/rock/layers.ts [--quick]` as root. Prints JSON; milliseconds, medians.
 * The rest of the machine should be idle.
 */

const quick = process.argv.includes("--quick");
const MIB = 2 ** 20;
const now = (): number => performance.now();
const median = (values: readonly number[]): number =>
  Math.round([...values].sort((a, b) => a - b)[values.length >> 1]! * 10) / 10;

const spec = (limits: Partial<Limits> = {}): SandboxSpec => ({
  image: BASE_IMAGE,
  files: [],
  network: { mode: "none" },
  workdir: "/work",
  limits: Limits.parse({ execTimeoutMs: 300_000, lifetimeMs: 1_200_000, ...limits }),
});

await ensureBaseImage(defaultHome());
const home = mkdtempSync(join(tmpdir(), "ale-bench-"));
mkdirSync(home, { recursive: true });
symlinkSync(join(defaultHome(), "images"), join(home, "images"));
const driver = new OciDriver({ home, snapshotBytes: 1e12 });
await driver.capabilities();
const results: Record<string, unknown> = {};

async function snapshots(name: string, bytes: number, files: number, limits: Partial<Limits>): Promise<void> {
  const box = await driver.create(spec(limits));
  const perFile = Math.floor(bytes / files);
  const fill = `use strict; my $data = "x" x ${perFile}; for my $n (1 .. ${files}) { my $d = "d" . ($n % 200); mkdir $d; open(my $f, ">", "$d/$n") or die $!; print $f $data; close $f }`;
  const filled = await box.exec({ argv: ["perl", "-e", fill] });
  if (filled.exitCode !== 0) throw new Error(filled.stderr);
  const rounds = quick ? 5 : 15;
  const [snapshot, fork, both, change]: number[][] = [[], [], [], []];
  for (let round = 0; round < rounds; round++) {
    await box.exec({ argv: ["sh", "-c", `echo ${round} > round`] });
    const at = now();
    const taken = (await box.snapshot()).snapshot;
    const between = now();
    const [one] = await driver.snapshots.fork(taken.id, 1);
    const end = now();
    const seen = await one!.exec({ argv: ["sh", "-c", "cat round; ls d7 | wc -l"] });
    if (seen.stdout !== `${round}\n${Math.floor(files / 200)}\n`)
      throw new Error(`wrong fork: ${seen.stdout}`);
    (round === 0 ? change! : snapshot!).push(between - at);
    fork!.push(end - between);
    both!.push(end - at);
    await one!.destroy();
  }
  results[name] = {
    bytes,
    files,
    firstSnapshotMs: median(change!),
    snapshotMs: median(snapshot!),
    forkMs: median(fork!),
    snapshotAndForkMs: median(both!),
    firstSnapshotAndForkMs: Math.round(both![0]! * 10) / 10,
  };
  await box.destroy();
  for (const { id } of await driver.snapshots.list()) await driver.snapshots.remove(id);
}

const memory = { memoryBytes: 6 * 2 ** 30, diskBytes: 3 * 2 ** 30 };
await snapshots("memory 1 MB", MIB, 200, memory);
await snapshots("memory 100 MB", 100 * MIB, 4_000, memory);
await snapshots("memory 1 GB", 1024 * MIB, 40_000, memory);
const disk = { memoryBytes: 1024 * MIB, diskBytes: 3 * 2 ** 30 };
await snapshots("disk 1 MB", MIB, 200, disk);
await snapshots("disk 1 GB", 1024 * MIB, 40_000, disk);

const pool = driver.pool(spec(), { size: 4 });
const takes: number[] = [];
for (let round = 0; round < (quick ? 10 : 40); round++) {
  await pool.filled();
  const at = now();
  const box = await pool.take();
  await box.shell.run("echo first");
  takes.push(now() - at);
  await box.destroy();
}
await pool[Symbol.asyncDispose]();
results["pool: take to first output"] = { medianMs: median(takes), worstMs: Math.round(Math.max(...takes)) };

const singles: number[] = [];
for (let round = 0; round < (quick ? 10 : 30); round++) {
  const at = now();
  const box = await driver.create(spec());
  await box.shell.run("echo first");
  singles.push(now() - at);
  await box.destroy();
}
results["create to first output"] = { medianMs: median(singles) };

const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
const storm = now();
const boxes = await Promise.all(Array.from({ length: 60 }, () => driver.create(spec())));
const created = now();
await Promise.all(boxes.map((box) => box.destroy()));
delay.disable();
results["60 at once"] = {
  createMs: Math.round(created - storm),
  destroyMs: Math.round(now() - created),
  eventLoopDelayMs: { mean: Math.round(delay.mean / 1e5) / 10, max: Math.round(delay.max / 1e6) },
};
await driver[Symbol.asyncDispose]();
rmSync(home, { recursive: true });
console.log(JSON.stringify(results, null, 2));
