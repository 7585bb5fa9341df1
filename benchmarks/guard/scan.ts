import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Sandbox } from "../../packages/rock/src/index.ts";
import { type BenchContext, compared, measured, type Result } from "../benchmark.ts";
import { percentile, timed } from "../rock/lab.ts";
import { openLab } from "./lab.ts";

const OTHERS = 8;
const PORTS = 10_000;
const PARTS = 10;

/** One sandbox scans ports as fast as it can while others run commands: what they wait for a command, with and without. */
export async function scan(context: BenchContext): Promise<Result[]> {
  await using lab = await openLab();
  const others = await Promise.all(Array.from({ length: OTHERS }, () => lab.another()));
  const program = readFileSync(join(import.meta.dirname, "scan.py"), "utf8");
  await lab.behind.writeFiles([{ path: "/work/scan.py", content: program, mode: 0o644, owner: "root" }]);
  const [calm, scanned]: [number[], number[]] = [[], []];
  let scanMs = 0;
  const rounds = context.quick ? 1 : 3;
  // In parts, each followed by as long a calm, so that whatever else this machine does falls upon both.
  for (let part = 0; part < rounds * PARTS; part++) {
    context.signal.throwIfAborted();
    const first = 1 + (part % PARTS) * (PORTS / PARTS);
    const argv = ["python3", "/work/scan.py", `${first}`, `${first + PORTS / PARTS - 1}`];
    const startedAt = performance.now();
    let scanning = true;
    const scanner = lab.behind.exec({ argv, timeoutMs: 120_000 }).finally(() => {
      scanning = false;
    });
    await execWhile(others, () => scanning, scanned);
    if ((await scanner).exitCode !== 0) throw new Error(`the scan failed: ${(await scanner).stderr}`);
    const took = performance.now() - startedAt;
    scanMs += took;
    const until = performance.now() + took;
    await execWhile(others, () => performance.now() < until, calm);
  }
  return [
    compared(
      `exec of true in ${OTHERS} sandboxes while another scans ${PORTS} ports, 95th percentile`,
      percentile(scanned, 95),
      "ms",
      percentile(calm, 95),
      { atMost: 2 },
    ),
    compared("the same, median", percentile(scanned, 50), "ms", percentile(calm, 50)),
    measured("connections that the scanner began", (rounds * PORTS * 1000) / scanMs, "1/s"),
  ];
}

async function execWhile(boxes: readonly Sandbox[], going: () => boolean, times: number[]): Promise<void> {
  for (let i = 0; going(); i++)
    times.push(await timed(() => boxes[i % boxes.length]!.exec({ argv: ["/bin/true"] })));
}
