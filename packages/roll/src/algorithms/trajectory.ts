/**
 * What the learning mathematics reads and writes. Nothing here knows about episodes, sandboxes or engines: a trajectory is
 * numbers, the answer is one weight a token. The engine minimises −Σ w_t log π(a_t), so a weight is the coefficient of
 * ∇log π(a_t) in the gradient that is ascended: positive reinforces, negative discourages, 0 does not train.
 */

/** One chunk as the mathematics sees it. Arrays have one entry a token, natural logarithms, or are empty for experts. */
export interface LearningChunk {
  /** |c| ≥ 1. */
  readonly tokens: number;
  /** log π_θ under the weights being trained. Left out when θ is still θ_old (then every staleness ratio is 1). */
  readonly logpTheta?: readonly number[];
  /** log π_θold: the version that acted, by the training engine. */
  readonly logpOld: readonly number[];
  /** log µ_θold: the same version as the sampler saw it. */
  readonly logpSampler: readonly number[];
  readonly source: "policy" | "expert";
}

export interface LearningTrajectory {
  readonly chunks: readonly LearningChunk[];
  /** Terminal reward. The trajectory is in T⁺ if and only if this is > 0. */
  readonly rFinal: number;
  /** One return a chunk, instead of Eq. 7: how a safety penalty enters at the chunk that caused it. Null: as Eq. 7 says. */
  readonly chunkReturns?: readonly (number | null)[];
  /** Leading chunks that were replayed from an expert: context, never trained by reinforcement. */
  readonly prefixLength: number;
  /** Trajectories of one group tried the same instance with the same version. Only GRPO reads it. */
  readonly group?: string;
}

/** What is divided by: the number of trajectories of the batch, or of their trainable chunks or tokens. */
export type NormaliserName = "trajectory" | "chunk" | "token";

export interface Diagnostics {
  readonly trajectories: number;
  /** Trajectories of T⁺ (rFinal > 0). */
  readonly positives: number;
  /** Trajectories with at least one weight ≠ 0: the others need not be sent to the engine. */
  readonly active: number;
  /** Chunks and tokens that the policy wrote after the prefix. */
  readonly trainableChunks: number;
  readonly trainableTokens: number;
  /** Share of trainable units (chunks for IPA, tokens for the baselines) dropped by the engine-mismatch mask; 0 when there are none. */
  readonly maskFraction: number;
  /** Mean staleness ratio over those units (over trajectories for REINFORCE); 1 when there are none. */
  readonly meanRho: number;
  /** Mean engine-mismatch ratio over those units; 1 when there are none. */
  readonly meanMismatch: number;
  /** Share of the units whose staleness ratio was cut by a clip; 0 when there are none. */
  readonly clippedFraction: number;
}

/** `weights[i][k][t]`: trajectory i, chunk k, token t of that chunk. Already divided by the normaliser. */
export interface BatchWeights {
  readonly weights: readonly (readonly (readonly number[])[])[];
  /** The N that the weights were divided by; at least 1. */
  readonly normaliser: number;
  readonly diagnostics: Diagnostics;
}

/** Whether reinforcement may train chunk k: the policy wrote it, after the replayed prefix. */
export function isTrainable(trajectory: LearningTrajectory, k: number): boolean {
  return k >= trajectory.prefixLength && trajectory.chunks[k]?.source === "policy";
}

/** log π_θ of a chunk, which is log π_θold where the caller left it out. */
export const thetaOf = (chunk: LearningChunk): readonly number[] => chunk.logpTheta ?? chunk.logpOld;

/** Throws a TypeError that names the place when a trainable chunk does not hold one finite number a token. */
export function checkTrajectory(trajectory: LearningTrajectory, at: number): void {
  const { chunks, chunkReturns, prefixLength, rFinal } = trajectory;
  const fail = (what: string): never => {
    throw new TypeError(`trajectory ${at}: ${what}`);
  };
  if (!Number.isFinite(rFinal)) fail(`rFinal is ${rFinal}`);
  if (!Number.isInteger(prefixLength) || prefixLength < 0) fail(`prefixLength is ${prefixLength}`);
  if (chunkReturns !== undefined) {
    if (chunkReturns.length !== chunks.length)
      fail(`${chunkReturns.length} chunk returns for ${chunks.length} chunks`);
    if (!chunkReturns.every((gain) => gain === null || Number.isFinite(gain)))
      fail("a chunk return is not finite");
  }
  chunks.forEach((chunk, k) => {
    if (!Number.isInteger(chunk.tokens) || chunk.tokens < 1) fail(`chunk ${k} has ${chunk.tokens} tokens`);
    if (!isTrainable(trajectory, k)) return;
    const series = { logpTheta: thetaOf(chunk), logpOld: chunk.logpOld, logpSampler: chunk.logpSampler };
    for (const [name, values] of Object.entries(series)) {
      if (values.length !== chunk.tokens)
        fail(`chunk ${k} has ${values.length} ${name} for ${chunk.tokens} tokens`);
      if (!values.every(Number.isFinite)) fail(`chunk ${k} has a ${name} that is not finite`);
    }
  });
}

/** Trajectories, trainable chunks and trainable tokens of a batch. Masked chunks count: a mask drops a gradient, not a sample. */
export function countBatch(batch: readonly LearningTrajectory[]): Readonly<Record<NormaliserName, number>> {
  let chunk = 0;
  let token = 0;
  for (const trajectory of batch)
    trajectory.chunks.forEach((item, k) => {
      if (!isTrainable(trajectory, k)) return;
      chunk += 1;
      token += item.tokens;
    });
  return { trajectory: batch.length, chunk, token };
}

/** Every weight times one factor, for example λ_RL of Eq. 10. */
export function scaleWeights(batch: BatchWeights, factor: number): BatchWeights {
  const weights = batch.weights.map((chunks) =>
    chunks.map((chunk) => chunk.map((weight) => weight * factor)),
  );
  return { ...batch, weights };
}
