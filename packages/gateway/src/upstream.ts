/**
 * Where tokens come from. The gateway turns messages into tokens and back; an upstream only continues token sequences.
 * The engine client in `roll` implements this port; tests use a scripted one.
 */
export interface SampleRequest {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  /** -1: all tokens. */
  readonly topK: number;
  /** Sampling ends after any of these; the stop token is part of the answer. */
  readonly stop: readonly number[];
  readonly seed?: number;
}

export interface Sampled {
  readonly tokens: readonly number[];
  /** One a token, of the temperature-1 distribution before top-p/top-k. */
  readonly logprobs: readonly number[];
  readonly stopReason: "stop" | "length";
  /** Policy version that sampled these tokens. */
  readonly version: number;
}

export interface Upstream {
  readonly model: string;
  sample(request: SampleRequest, signal?: AbortSignal): Promise<Sampled>;
}
