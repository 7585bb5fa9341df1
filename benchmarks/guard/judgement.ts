import type { Telemetry } from "../../packages/core/src/index.ts";
import { Instance } from "../../packages/core/src/index.ts";
import { EpisodeGuard, shippedRules } from "../../packages/guard/src/index.ts";
import { type BenchContext, measured, median, type Result } from "../benchmark.ts";
import { stream } from "./rules.ts";

/**
 * The whole judgement of a record: whose it is, by time and by descent, all shipped rules, what has been told of it, whether the log keeps it.
 * In processor time, collecting garbage included, because what waits for a core does not judge.
 * One episode of twenty calls takes the stream of a busy sandbox, and then the worst that an agent can do to it: a scan of every port.
 */
const CALLS = 20;
const START = 1_763_700_000_000;

export async function judgement(context: BenchContext): Promise<Result[]> {
  const count = context.quick ? 20_000 : 200_000;
  const busy = stream(count).map((record, i) => placed(record, i, count));
  const scan = busy.map((record, i): Telemetry => {
    const { process, at } = record;
    const net = {
      flow: `f${i}`,
      protocol: "tcp" as const,
      ip: "10.0.0.5",
      port: i % 65_536,
      rule: "private",
    };
    return { at, kind: "net.deny", source: "proxy", sandbox: "sb", net, ...(process ? { process } : {}) };
  });
  const results: Result[] = [];
  for (const [name, records] of [
    ["a busy sandbox", busy],
    ["a port scan", scan],
  ] as const) {
    const rates: number[] = [];
    let told = 0;
    for (let round = 0; round < (context.quick ? 3 : 11); round++) {
      context.signal.throwIfAborted();
      const guard = begun(count);
      told = 0;
      const before = process.cpuUsage();
      for (const record of records) told += guard.observe(record, Number.POSITIVE_INFINITY).alerts.length;
      const { user, system } = process.cpuUsage(before);
      rates.push(records.length / ((user + system) / 1e6));
    }
    if (told === 0) throw new Error(`${name}: no alert, so that nothing was judged`);
    results.push(
      measured(`records of ${name} judged for an episode, a second of one core`, median(rates), "records/s", {
        atLeast: 50_000,
      }),
      measured(`alerts of ${name}`, told, "alerts"),
    );
  }
  return results;
}

/** An episode whose calls are spread over the stream. */
function begun(count: number): EpisodeGuard {
  const guard = new EpisodeGuard({
    episode: "ep",
    instance: INSTANCE,
    fingerprints: [],
    rules: shippedRules(),
  });
  for (let chunk = 0; chunk < CALLS; chunk++) {
    const call = { id: `call_${chunk}`, name: "bash", arguments: { command: "make" } };
    const at = START + (chunk * 2 * count) / CALLS;
    guard.beginCall(chunk, call, at);
    guard.endCall(chunk, call, [], at + count / CALLS);
  }
  return guard;
}

/** As the collectors tell it: when its process and its ancestors were started, the session's shell last. */
function placed(record: Telemetry, i: number, count: number): Telemetry {
  const { process, episode: _, chunk: __, ...rest } = record;
  const at = START + i * 2;
  if (process === undefined) return { ...rest, at, sandbox: "sb" };
  const call = START + Math.floor((i * CALLS) / count) * ((2 * count) / CALLS) + 20;
  const ancestry = ["make -j4", "sh build.sh", "bash --norc --noprofile --noediting -i"];
  const lineage = [
    { pid: 900, startedAt: call + 10 },
    { pid: 800, startedAt: call },
    { pid: 20, startedAt: START - 100 },
  ];
  return {
    ...rest,
    at,
    sandbox: "sb",
    process: { ...process, startedAt: at - 1, ancestry, lineage, shell: 20 },
  };
}

const INSTANCE = Instance.parse({
  schema: "ale/instance@1",
  id: "bench/train/1",
  family: "bench",
  domain: "security",
  split: "train",
  seed: 1,
  instruction: "none",
  image: "ale/base",
  workdir: "/work",
  files: [],
  limits: {},
  network: { mode: "none" },
  verifier: { files: [] },
  referenceChunks: 1,
});
