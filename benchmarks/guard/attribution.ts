import type { Telemetry } from "../../packages/core/src/index.ts";
import type { Sandbox } from "../../packages/rock/src/index.ts";
import { type BenchContext, measured, type Result } from "../benchmark.ts";
import { percentile } from "../rock/lab.ts";
import { openLab } from "./lab.ts";

const SANDBOXES = 8;
const SHORT_EACH = 25;
const HELD_EACH = 10;
const FORBIDDEN = "198.51.100.7";

/**
 * Refused connections, whose records must name the process that asked: programs that are gone when the refusal is written down, and such as wait
 * for an answer. Each goes to a port of its own from a program of its own, so that a wrong process is not counted as found.
 */
export async function attribution(context: BenchContext): Promise<Result[]> {
  await using lab = await openLab();
  const boxes = await Promise.all(Array.from({ length: SANDBOXES }, () => lab.another()));
  const records: Telemetry[] = [];
  const late: number[] = [];
  const listening = boxes.map((box) =>
    box.onTelemetry((record) => {
      records.push(record);
      if (record.kind === "net.deny") late.push(performance.timeOrigin + performance.now() - record.at);
    }),
  );
  const short = context.quick ? 5 : SHORT_EACH;
  context.signal.throwIfAborted();
  const gone = await attempts(boxes, records, 10_000, short, (port) => `: < /dev/tcp/${FORBIDDEN}/${port}`);
  const held = await attempts(
    boxes,
    records,
    30_000,
    HELD_EACH,
    (port) => `exec 3<>/dev/tcp/${FORBIDDEN}/${port}; echo hello >&3; read -t 5 <&3; :`,
  );
  for (const one of listening) one[Symbol.dispose]();
  return [
    measured(`processes found of ${gone.of} that held their connection not a moment`, gone.found, "%", {
      atLeast: 95,
    }),
    measured("with the time of their start and their ancestors", gone.lineage, "%"),
    measured("with their arguments, which are read while they run", gone.arguments, "%"),
    measured(`processes found of ${held.of} that held their connection`, held.found, "%", { atLeast: 100 }),
    measured("from a refusal to its record with the process, median", percentile(late, 50), "ms"),
    measured("the same, 95th percentile", percentile(late, 95), "ms"),
  ];
}

const program = (port: number): string => `/work/programs/${port}`;

async function attempts(
  boxes: readonly Sandbox[],
  records: Telemetry[],
  firstPort: number,
  each: number,
  script: (port: number) => string,
): Promise<{
  readonly found: number;
  readonly lineage: number;
  readonly arguments: number;
  readonly of: number;
}> {
  await Promise.all(
    boxes.map((box, n) => {
      const first = firstPort + n * 1_000;
      const link = `mkdir -p /work/programs; for p in $(seq ${first} ${first + each}); do ln -s /bin/bash ${program(0).slice(0, -1)}$p; done`;
      return box.exec({ argv: ["bash", "-c", link], user: "root" });
    }),
  );
  await Promise.all(boxes.map((box) => box.drainTelemetry()));
  records.length = 0;
  await Promise.all(
    boxes.map(async (box, n) => {
      for (let i = 0; i < each; i++)
        await box.exec({
          argv: [program(firstPort + n * 1_000 + i), "-c", script(firstPort + n * 1_000 + i)],
        });
    }),
  );
  await Promise.all(boxes.map((box) => box.drainTelemetry()));
  const denied = records.filter(({ kind }) => kind === "net.deny");
  const right = denied.filter(({ net, process }) => process?.command?.startsWith(program(net?.port ?? 0)));
  const traced = right.filter(({ process }) => process?.lineage !== undefined);
  const worded = right.filter(({ net, process }) =>
    process?.command?.includes(`tcp/${FORBIDDEN}/${net?.port}`),
  );
  const of = boxes.length * each;
  const percent = (some: readonly Telemetry[]): number => (100 * some.length) / of;
  return { found: percent(right), lineage: percent(traced), arguments: percent(worded), of };
}
