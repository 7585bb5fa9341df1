import type { Upstream } from "@ale/gateway";
import type { Adam } from "../recipe/recipe.ts";

/**
 * What stages need from an engine: it continues token sequences and follows weighted log-likelihood. It knows nothing of episodes,
 * rewards or advantages.
 */
export interface WeightedSequence {
  readonly tokens: readonly number[];
  /** One a token: the coefficient of that token's log-probability in the objective. The first has no prediction and must be 0. */
  readonly weights: readonly number[];
}

export interface StepResult {
  /** L2 norm of the gradient before clipping. */
  readonly gradNorm: number;
  /** −Σ w·log π over the batch. */
  readonly loss: number;
}

export interface SavedCheckpoint {
  /** What the engine loads it by. */
  readonly path: string;
  /** Where it lies on this machine, if it does. */
  readonly directory: string | null;
}

export interface Learner {
  /** A sampler frozen at the current weights. */
  sampler(version: number, signal?: AbortSignal): Promise<Upstream>;
  /** Log-probability of every token given the ones before it, under the current weights. Entry 0 of each row is 0. */
  logprobs(sequences: readonly (readonly number[])[], signal?: AbortSignal): Promise<number[][]>;
  /** One optimiser step on the sum over all sequences. */
  step(batch: readonly WeightedSequence[], adam: Adam, signal?: AbortSignal): Promise<StepResult>;
  /** Writes weights and optimiser state. */
  save(name: string, signal?: AbortSignal): Promise<SavedCheckpoint>;
  /** Writes the weights as a model directory that others can load, where the engine can; null where it cannot. */
  export(name: string, signal?: AbortSignal): Promise<string | null>;
}
