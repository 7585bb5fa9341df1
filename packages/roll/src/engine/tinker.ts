import type { Sampled, SampleRequest } from "@ale/gateway";
import type { Datum } from "./datum.ts";

/**
 * Client of the Tinker REST protocol: our engine, or any server that speaks it. It moves tokens, weights and log-probabilities
 * and knows nothing of what they are for. Errors are those of calls.ts; a signal that aborts stops the waiting, not the work.
 */
export interface TinkerClient {
  readonly baseUrl: string;
  /** Resolves when the server answers. */
  health(signal?: AbortSignal): Promise<void>;
  /** Names of the base models that the server offers. */
  models(signal?: AbortSignal): Promise<string[]>;
  /** Opens a session and keeps it alive until it or the client is closed. */
  createSession(signal?: AbortSignal): Promise<TinkerSession>;
  close(): void;
}

export interface CreateModel {
  readonly baseModel: string;
  /** Rank of the low-rank adapter; 0 trains every parameter (our engine; others may refuse). */
  readonly rank?: number;
  /** Seed of what is initialised at random. */
  readonly seed?: number;
}

export interface TinkerSession {
  readonly id: string;
  createModel(request: CreateModel, signal?: AbortSignal): Promise<TinkerModel>;
  /** A model that begins at saved weights; with `optimizer` it goes on exactly where they were saved. */
  loadModel(path: string, optimizer: boolean, signal?: AbortSignal): Promise<TinkerModel>;
  /** A sampler of saved weights (`tinker://…`) or of a base model. */
  openSampler(
    of: { readonly modelPath: string } | { readonly baseModel: string },
    signal?: AbortSignal,
  ): Promise<TinkerSampler>;
  /** Tells the server that the session is over, so that it can free models and samplers. What was saved stays. */
  finish(signal?: AbortSignal): Promise<void>;
  /** Stops the signs of life, no more: enough where the server ends too. */
  close(): void;
}

/** Adam with decoupled weight decay. `gradClipNorm` 0 does not clip. */
export interface AdamSettings {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly gradClipNorm: number;
}

export interface LossResult {
  /** log π of every target, in the order of the data: `logprobs[i]` has the length of `data[i].targets`. */
  readonly logprobs: readonly (readonly number[])[];
  /** −Σ w · log π where the server reports it. */
  readonly loss: number | null;
}

export interface OptimResultMetrics {
  /** L2 norm of the gradient before clipping, where the server reports it. */
  readonly gradNorm: number | null;
  readonly metrics: Readonly<Record<string, number>>;
}

export interface SavedWeights {
  /** `tinker://…`, which loads them again. */
  readonly path: string;
  /** Where they lie on the server's disk, if it says so. */
  readonly directory: string | null;
}

/**
 * One model under training. Its calls are carried out one after the other, in the order in which they were made.
 * After a call that was interrupted, so that nobody knows whether it was carried out, all others fail with `engine-uncertain`.
 */
export interface TinkerModel {
  readonly id: string;
  /** Log-probabilities under the current weights; nothing else changes. */
  forward(data: readonly Datum[], signal?: AbortSignal): Promise<LossResult>;
  /** Adds the gradient of −Σ w · log π, a true sum over all data, to what the next `optimStep` uses. */
  forwardBackward(data: readonly Datum[], signal?: AbortSignal): Promise<LossResult>;
  optimStep(adam: AdamSettings, signal?: AbortSignal): Promise<OptimResultMetrics>;
  /** Saves weights and optimiser state; `name` is of letters, digits, `-` and `_`, and new to this model. */
  saveWeights(name: string, signal?: AbortSignal): Promise<SavedWeights>;
  /** Replaces the weights, and with `optimizer` the optimiser's state too. */
  loadWeights(path: string, optimizer: boolean, signal?: AbortSignal): Promise<void>;
  /** Saves weights for sampling only. Our engine writes a complete Hugging Face model directory. */
  saveSamplerWeights(name: string, signal?: AbortSignal): Promise<SavedWeights>;
  /** A sampler frozen at the current weights, which need not be written anywhere. */
  sampler(signal?: AbortSignal): Promise<TinkerSampler>;
}

export interface TinkerSampleRequest extends SampleRequest {
  readonly samples?: number;
}

export type TinkerSample = Omit<Sampled, "version">;

export interface TinkerSampler {
  readonly id: string;
  /** `samples` continuations of the prompt, 1 unless said otherwise. May be called any number of times at once. */
  sample(request: TinkerSampleRequest, signal?: AbortSignal): Promise<TinkerSample[]>;
}
