import { Algorithm, type AlgorithmInput, locateEngine } from "../../packages/roll/src/index.ts";
import { openAutogradReference } from "../../packages/roll/test/autograd.ts";
import { type BenchContext, measured, type Result } from "../benchmark.ts";

/** The gradient that our weights give, against torch autograd of the published objectives, over many random policies. */

const CASES: readonly (readonly [string, AlgorithmInput])[] = [
  ["Eq. 9 (IPA), successes only", { name: "ipa" }],
  ["Eq. 9 (IPA), successes and failures", { name: "ipa", failReward: -1 }],
  ["Eq. 6 (REINFORCE)", { name: "reinforce", failReward: -1 }],
  ["GRPO", { name: "grpo" }],
];

export async function gradient(context: BenchContext): Promise<Result[]> {
  const engine = locateEngine();
  if (!engine.ok) throw engine.error;
  const batches = context.quick ? 10 : 200;
  const reference = openAutogradReference(engine.value.python);
  try {
    const results: Result[] = [];
    for (const [what, input] of CASES) {
      const algorithm = Algorithm.parse(input);
      let worst = 0;
      for (let seed = 0; seed < batches; seed++) {
        context.signal.throwIfAborted();
        const compared = await reference.compare({
          algorithm,
          seed,
          dtype: "float32",
          noiseOld: 0.1,
          noiseSampler: 0.2,
        });
        worst = Math.max(worst, compared.relativeError);
      }
      const label = `gradient of ${what} against torch autograd, worst of ${batches} batches`;
      results.push(measured(label, worst, "relative error, fp32", { atMost: 1e-6 }));
    }
    return results;
  } finally {
    await reference.close();
  }
}
