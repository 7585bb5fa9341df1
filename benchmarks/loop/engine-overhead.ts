import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { seededRandom } from "../../packages/core/src/index.ts";
import {
  connectTinker,
  type Datum,
  ENGINE_ALLOCATOR,
  locateEngine,
  startEngine,
  type TinkerModel,
  weightedDatum,
} from "../../packages/roll/src/index.ts";
import { type BenchContext, compared, measured, median, type Result } from "../benchmark.ts";
import { NANO_QWEN3, writeNanoModel } from "./nano-model.ts";

/**
 * What the engine's protocol costs: forward_backward of one reinforcement batch over HTTP, JSON both ways, against the bare
 * PyTorch loop of bare-torch.py on the same weights, batch and microbatches. The two take turns (ABAB), so that other load on
 * the machine meets both.
 */

/** One thread each: the two processes take turns, and a second thread that spins would disturb the other. */
const THREADS = 1;
const SEQUENCES = 96;
/** Padded tokens of a microbatch; the engine's own number. */
const BUDGET = 4_096;
const ADAM = { learningRate: 0, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0, gradClipNorm: 0 };

export async function engineOverhead(context: BenchContext): Promise<Result[]> {
  const located = locateEngine();
  if (!located.ok) throw located.error;
  const { python } = located.value;
  const home = mkdtempSync(join(tmpdir(), "ale-bench-"));
  const directory = join(home, "nano");
  writeNanoModel(directory);
  const models = { nano: directory };
  const options = {
    python,
    models,
    stateDir: join(home, "state"),
    threads: THREADS,
    logPath: join(home, "engine.log"),
  };
  const engine = await startEngine(options, context.signal);
  const client = connectTinker({ baseUrl: engine.baseUrl, died: engine.died });
  try {
    const session = await client.createSession(context.signal);
    const model = await session.createModel({ baseModel: "nano", seed: 1 }, context.signal);
    const { directory: weights } = await model.saveSamplerWeights("bench", context.signal);
    const data = batch();
    const bare = bareLoop(python, { model: weights, threads: THREADS, budget: BUDGET, data });
    try {
      return await measure(context, model, bare, data);
    } finally {
      await bare.close();
    }
  } finally {
    client.close();
    await engine.stop();
    rmSync(home, { recursive: true, force: true });
  }
}

/** Lengths of a round of short episodes, about 100 tokens each; a third of the tokens carry a weight. */
function batch(): Datum[] {
  const random = seededRandom("engine-overhead");
  return Array.from({ length: SEQUENCES }, () => {
    const length = 40 + random.int(121);
    const tokens = Array.from({ length }, () => random.int(NANO_QWEN3.vocab_size));
    return weightedDatum(
      tokens,
      tokens.map((_token, t) =>
        t > 0 && (random.int(3) === 0 || t === length - 1) ? (random.next() - 0.3) / SEQUENCES : 0,
      ),
    );
  });
}

async function measure(
  context: BenchContext,
  model: TinkerModel,
  bare: BareLoop,
  data: readonly Datum[],
): Promise<Result[]> {
  for (const [name, version] of Object.entries(await bare.versions)) context.version(name, version);
  const pairs = context.quick ? 3 : 30;
  const warmUp = 1;
  const engineSeconds: number[] = [];
  const bareSeconds: number[] = [];
  let worstLoss = 0;
  let worstNorm = 0;
  for (let i = 0; i < warmUp + pairs; i++) {
    const started = performance.now();
    const { loss } = await model.forwardBackward(data, context.signal);
    const seconds = (performance.now() - started) / 1000;
    const { gradNorm } = await model.optimStep(ADAM, context.signal);
    const reference = await bare.once();
    worstLoss = Math.max(worstLoss, Math.abs(loss! / reference.loss - 1));
    worstNorm = Math.max(worstNorm, Math.abs(gradNorm! / reference.gradNorm - 1));
    if (i < warmUp) continue;
    engineSeconds.push(seconds);
    bareSeconds.push(reference.seconds);
  }
  const tokens = data.reduce((sum, datum) => sum + datum.tokens.length, 0);
  const pairRatio = median(engineSeconds.map((seconds, i) => seconds / bareSeconds[i]!));
  const one = median(engineSeconds);
  const other = median(bareSeconds);
  return [
    compared(
      `forward_backward over HTTP against a bare PyTorch loop, ${data.length} sequences, ${tokens} tokens, median`,
      one,
      "s",
      other,
    ),
    measured(`median over ${pairs} interleaved pairs of engine time / bare time`, pairRatio, "ratio", {
      atMost: 1.15,
    }),
    compared("training tokens, forward and backward", tokens / one, "tokens/s", tokens / other),
    measured("gradient norm: engine against the bare loop, worst", worstNorm, "relative difference", {
      atMost: 1e-5,
    }),
    measured("loss: engine against the bare loop, worst", worstLoss, "relative difference", { atMost: 1e-4 }),
  ];
}

interface BareLoop {
  readonly versions: Promise<Record<string, string>>;
  once(): Promise<{ seconds: number; loss: number; gradNorm: number }>;
  close(): Promise<void>;
}

function bareLoop(python: string, setup: object): BareLoop {
  const threads = String(THREADS);
  const child = spawn(python, [join(import.meta.dirname, "bare-torch.py")], {
    stdio: ["pipe", "pipe", "inherit"],
    env: {
      ...process.env,
      ...ENGINE_ALLOCATOR,
      OMP_NUM_THREADS: threads,
      MKL_NUM_THREADS: threads,
      HF_HUB_OFFLINE: "1",
    },
  });
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  child.stdin.on("error", () => {}); // the reader below reports the end
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<unknown> => {
    const line = await lines.next();
    if (line.done) throw new Error("the bare PyTorch loop ended; see its error above");
    return JSON.parse(line.value);
  };
  child.stdin.write(`${JSON.stringify(setup)}\n`);
  const versions = answer().then((first) => (first as { versions: Record<string, string> }).versions);
  return {
    versions,
    once: async () => {
      await versions;
      child.stdin.write("\n");
      return (await answer()) as { seconds: number; loss: number; gradNorm: number };
    },
    close: () => {
      child.stdin.end();
      return closed;
    },
  };
}
