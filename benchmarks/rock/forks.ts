import { openOciDriver } from "../../packages/rock/src/index.ts";
import { type BenchContext, measured, median, type Result } from "../benchmark.ts";
import { percentile, plain } from "./lab.ts";

/** Snapshot and fork of a sandbox that has changed much, to the fork's first output: the same time whatever the size. */

const SIZES = [
  { name: "1 MB in 100 files", files: 100, bytes: 10_000 },
  { name: "100 MB in 4,000 files", files: 4_000, bytes: 25_000 },
  { name: "1 GB in 40,000 files", files: 40_000, bytes: 25_000 },
];

export async function forks(context: BenchContext): Promise<Result[]> {
  await using driver = openOciDriver();
  const medians: number[] = [];
  const results: Result[] = [];
  for (const { name, files, bytes } of context.quick ? SIZES.slice(0, 2) : SIZES) {
    const limits = { memoryBytes: 4 * 2 ** 30, diskBytes: 2 ** 31, execTimeoutMs: 300_000, pids: 256 };
    await using box = await driver.create(plain(limits));
    context.say(`  ${name} …`);
    const made = await box.shell.run(
      `head -c ${bytes} /dev/urandom > seed && mkdir d{0..99} && for i in {1..${files / 100}}; do for d in d*; do cp seed $d/$i; done; done; find . -type f | wc -l`,
      { timeoutMs: 300_000 },
    );
    if (Number(made.output.trim()) !== files + 1) throw new Error(`the files were not made: ${made.output}`);
    const times: number[] = [];
    for (let i = 0; i < (context.quick ? 5 : 30); i++) {
      context.signal.throwIfAborted();
      const startedAt = performance.now();
      const { snapshot } = await box.snapshot();
      const [fork] = await driver.snapshots.fork(snapshot.id, 1);
      await fork!.exec({ argv: ["/bin/true"] });
      times.push(performance.now() - startedAt);
      await fork!.destroy();
    }
    medians.push(median(times));
    results.push(
      measured(`snapshot + fork → first output, ${name}, median`, median(times), "ms", { atMost: 100 }),
      measured(`snapshot + fork → first output, ${name}, p95`, percentile(times, 95), "ms"),
    );
  }
  const flatness = Math.max(...medians) / Math.min(...medians);
  return [...results, measured("the slowest size against the quickest", flatness, "ratio", { atMost: 1.5 })];
}
