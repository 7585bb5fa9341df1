import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { seededRandom } from "@ale/core";
import { z } from "zod";
import { type Algorithm, type LearningTrajectory, tokenWeights } from "../src/index.ts";

/**
 * Compares the gradient that our weights give with torch's autograd of the published objective, on random small policies. The
 * reference is autograd-reference.py; this file draws the trajectories and drives it. Used by a test and by a benchmark.
 */

export interface GradientCase {
  readonly algorithm: Algorithm;
  readonly seed: number;
  readonly dtype: "float32" | "float64";
  /** Standard deviation of the steps θ → θ_old and θ_old → sampler, on weights of order 1. */
  readonly noiseOld: number;
  readonly noiseSampler: number;
  /** Changes the weights before they are compared: shows that the comparison notices. */
  readonly spoil?: (weights: number[][][]) => number[][][];
}

export interface GradientComparison {
  /** ‖Σ w ∇log π − ∇J‖ / ‖∇J‖. */
  readonly relativeError: number;
  readonly referenceNorm: number;
  readonly maskFraction: number;
  readonly clippedFraction: number;
}

const Policies = z.object({
  trajectories: z.array(
    z.array(
      z.object({
        logpTheta: z.array(z.number()),
        logpOld: z.array(z.number()),
        logpSampler: z.array(z.number()),
      }),
    ),
  ),
});
const Gradient = z.object({
  relativeError: z.number(),
  referenceNorm: z.number(),
  weightsNorm: z.number(),
});

export interface AutogradReference {
  compare(gradientCase: GradientCase): Promise<GradientComparison>;
  close(): Promise<void>;
}

/** Starts the reference with the engine's Python. */
export function openAutogradReference(python: string): AutogradReference {
  const child = spawn(python, [join(import.meta.dirname, "autograd-reference.py")], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  let errors = "";
  child.stderr.on("data", (data: Buffer) => {
    errors += data.toString();
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  child.stdin.on("error", () => {}); // the reader below reports the end with its reason
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (request: unknown): Promise<unknown> => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const line = await lines.next();
    if (line.done) {
      await ended;
      throw new Error(`the autograd reference ended: ${errors.slice(-2000)}`);
    }
    return JSON.parse(line.value);
  };
  return {
    compare: (gradientCase) => compare(gradientCase, ask),
    close: () => {
      child.stdin.end();
      return ended;
    },
  };
}

async function compare(
  gradientCase: GradientCase,
  ask: (request: unknown) => Promise<unknown>,
): Promise<GradientComparison> {
  const { algorithm, seed, dtype, noiseOld, noiseSampler } = gradientCase;
  const drawn = drawTrajectories(seed);
  const policies = Policies.parse(
    await ask({ op: "policies", seed, dtype, noiseOld, noiseSampler, trajectories: drawn }),
  );
  const batch = drawn.map(
    ({ chunks, sources, chunkReturns, ...facts }, i): LearningTrajectory => ({
      ...facts,
      ...(chunkReturns === null ? {} : { chunkReturns }),
      chunks: chunks.map((chunk, k) => ({
        ...policies.trajectories[i]![k]!,
        tokens: chunk.tokens.length,
        source: sources[k]!,
      })),
    }),
  );
  const { weights, diagnostics } = tokenWeights(batch, algorithm);
  const mutable = weights.map((chunks) => chunks.map((chunk) => [...chunk]));
  const answer = await ask({
    op: "gradient",
    algorithm,
    trajectories: drawn,
    weights: gradientCase.spoil?.(mutable) ?? mutable,
  });
  const { relativeError, referenceNorm } = Gradient.parse(answer);
  return {
    relativeError,
    referenceNorm,
    maskFraction: diagnostics.maskFraction,
    clippedFraction: diagnostics.clippedFraction,
  };
}

interface DrawnTrajectory {
  readonly chunks: readonly { readonly context: readonly number[]; readonly tokens: readonly number[] }[];
  readonly sources: readonly ("policy" | "expert")[];
  readonly rFinal: number;
  readonly prefixLength: number;
  readonly group: string;
  readonly chunkReturns: readonly number[] | null;
}

/** Eight trajectories in two groups: successes and failures in each, expert prefixes, and one with a penalty on its chunks. */
function drawTrajectories(seed: number): DrawnTrajectory[] {
  const random = seededRandom(seed);
  const tokens = (low: number, span: number): number[] =>
    Array.from({ length: low + random.int(span) }, () => random.int(23));
  return Array.from({ length: 8 }, (_, i) => {
    const chunks = Array.from({ length: 2 + random.int(4) }, () => ({
      context: tokens(1, 4),
      tokens: tokens(1, 6),
    }));
    const prefixLength = i % 4 === 3 ? 1 : 0;
    return {
      chunks,
      sources: chunks.map((_chunk, k) => (k < prefixLength ? "expert" : "policy")),
      rFinal: i % 2 === 0 ? [1, 0.5][random.int(2)]! : 0,
      prefixLength,
      group: i < 4 ? "a" : "b",
      chunkReturns: i === 5 ? chunks.map((_chunk, k) => (k === 0 ? 0 : -1)) : null,
    };
  });
}
