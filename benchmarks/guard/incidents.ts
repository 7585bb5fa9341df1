import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import {
  beginOf,
  logText,
  T0,
  type Timed,
  tunnelEpisode,
  turnOf,
} from "../../packages/guard/test/recorded.ts";
import { type BenchContext, compared, measured, median, type Result } from "../benchmark.ts";

/**
 * `ale guard incidents` over many small logs, a quarter of which have two incidents each: the first time, when the index is made, and after.
 * The reference reads the bytes of every log and looks at nothing, which is what a list without an index cannot do without.
 */
const ALE = resolve(import.meta.dirname, "../../ale");

export async function incidents(context: BenchContext): Promise<Result[]> {
  const logs = context.quick ? 1_000 : 10_000;
  const home = mkdtempSync(join(tmpdir(), "ale-bench-incidents-"));
  try {
    const folder = join(home, "runs/bench/episodes");
    mkdirSync(folder, { recursive: true });
    for (let n = 0; n < logs; n++) writeLog(folder, n);
    const index = join(home, "runs/bench/index.sqlite");
    const [cold, warm, bytes]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < (context.quick ? 2 : 5); round++) {
      context.signal.throwIfAborted();
      for (const suffix of ["", "-wal", "-shm"]) rmSync(index + suffix, { force: true });
      cold.push(timed(() => list(home, logs)));
      warm.push(timed(() => list(home, logs)));
      bytes.push(timed(() => readdirSync(folder).forEach((name) => void readFileSync(join(folder, name)))));
    }
    const name = `incidents of ${logs} episodes`;
    return [
      compared(`${name}, listed the first time`, median(cold), "s", median(bytes)),
      compared(`${name}, listed again`, median(warm), "s", median(bytes)),
      measured(`${name}, listed again: of the first time`, median(warm) / median(cold), ""),
    ];
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

function writeLog(folder: string, n: number): void {
  const id = `ep_${String(n).padStart(6, "0")}`;
  const start = T0 + n * 1_000;
  const quiet = turnOf(0, "ls", "a\n");
  const peace: Timed[] = [
    [0, beginOf(id, start)],
    [10, quiet.says],
    [11, quiet.calls],
    [12, quiet.sees],
    [20, { type: "episode.end", termination: "submitted", chunks: 1 }],
    [21, { type: "verdict", verdict: { reward: 1, tests: [], durationMs: 1 } }],
  ];
  writeFileSync(join(folder, `${id}.jsonl`), logText(start, n % 4 === 0 ? tunnelEpisode(id, start) : peace));
}

function list(home: string, logs: number): void {
  const out = execFileSync(ALE, ["guard", "incidents", "--home", home, "--limit", "1", "--json"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const { total } = JSON.parse(out.trimEnd().split("\n").at(-1)!) as { total: number };
  if (total !== logs / 2) throw new Error(`${total} incidents were listed, ${logs / 2} are recorded`);
}

function timed(work: () => void): number {
  const startedAt = performance.now();
  work();
  return (performance.now() - startedAt) / 1_000;
}
