import type { Telemetry } from "../../packages/core/src/index.ts";
import { seededRandom } from "../../packages/core/src/index.ts";
import { compileRules, readRules, SHIPPED_RULES } from "../../packages/guard/src/index.ts";
import { type BenchContext, compared, measured, median, type Result } from "../benchmark.ts";

/**
 * All shipped rules over a stream such as busy sandboxes give: mostly executions and file changes, some network, of which a few are
 * violations. The reference does the least that anything could: it reads the kind of each record.
 */

const KINDS = [
  "process.exec",
  "process.exec",
  "process.exec",
  "file.change",
  "file.change",
  "net.deny",
  "dns.query",
  "net.flow",
  "syscall.denied",
  "tool.call",
] as const;
const COMMANDS = [
  "gcc -O2 -c main.c -o main.o",
  "python3 -m pytest -q tests",
  "ls -la /work",
  "grep -rn TODO src",
  "ssh -R 2222:localhost:22 x@198.51.100.7",
];

export async function rules(context: BenchContext): Promise<Result[]> {
  const pack = readRules([SHIPPED_RULES]);
  const records = stream(context.quick ? 20_000 : 200_000);
  const rates: number[] = [];
  const bare: number[] = [];
  let matches = 0;
  for (let round = 0; round < (context.quick ? 3 : 11); round++) {
    context.signal.throwIfAborted();
    const engine = compileRules<Telemetry>(pack);
    matches = 0;
    const startedAt = performance.now();
    for (const record of records) matches += engine.feed(record).length;
    rates.push(records.length / ((performance.now() - startedAt) / 1000));
    const bareAt = performance.now();
    let seen = 0;
    for (const record of records) if (record.kind === "net.deny") seen++;
    bare.push(records.length / ((performance.now() - bareAt) / 1000));
    if (seen === 0) throw new Error("the stream has no refused connection");
  }
  return [
    measured(`telemetry records judged by ${pack.length} rules, one core`, median(rates), "records/s", {
      atLeast: 50_000,
    }),
    compared("time of a record against only reading its kind", 1e6 / median(rates), "µs", 1e6 / median(bare)),
    measured("matches per thousand records", (1000 * matches) / records.length, "matches"),
  ];
}

/** Records of 64 busy sandboxes. */
export function stream(count: number): Telemetry[] {
  const random = seededRandom("guard-rules");
  return Array.from({ length: count }, (_, i): Telemetry => {
    const kind = KINDS[random.int(KINDS.length)]!;
    const command = COMMANDS[random.int(100) === 0 ? 4 : random.int(4)]!;
    const common = {
      at: i * 2,
      kind,
      source: "tracefs" as const,
      sandbox: `sb-${random.int(64)}`,
      episode: `ep-${random.int(64)}`,
      chunk: random.int(20),
      process: {
        pid: 1000 + random.int(9000),
        exe: `/usr/bin/${command.split(" ")[0]}`,
        command,
        ancestry: ["bash", "init"],
      },
    };
    switch (kind) {
      case "file.change":
        return { ...common, file: { path: `/work/src/file${random.int(500)}.c`, change: "modified" } };
      case "net.deny":
        return {
          ...common,
          net: { ip: `203.0.113.${random.int(4)}`, port: 443, rule: "default", protocol: "tcp" },
        };
      case "dns.query":
        return {
          ...common,
          dns: {
            name: `host${random.int(9)}.files.test`,
            base: "files.test",
            type: "A",
            allowed: true,
            labelBytes: 5,
            entropy: 2,
          },
        };
      case "net.flow":
        return {
          ...common,
          net: {
            host: "files.test",
            bytesUp: random.int(9000),
            bytesDown: random.int(90_000),
            durationMs: 80,
          },
        };
      case "syscall.denied":
        return { ...common, syscall: { name: "clone3" } };
      case "tool.call":
        return { ...common, tool: { name: "bash", command } };
      default:
        return common;
    }
  });
}
