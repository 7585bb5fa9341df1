import { AleError } from "@ale/core";
import type { SampleRequest, Upstream } from "@ale/gateway";
import type { TinkerSampler } from "./tinker.ts";

/** The gateway's upstream over a sampler whose weights are frozen: everything it samples is stamped with their version. */
export function engineUpstream(sampler: TinkerSampler, model: string, version: number): Upstream {
  return {
    model,
    sample: async (request: SampleRequest, signal?: AbortSignal) => {
      const [sampled] = await sampler.sample(request, signal);
      if (sampled === undefined || sampled.tokens.length !== sampled.logprobs.length)
        throw new AleError(
          "engine-protocol",
          "the engine answered a sample without one log-probability a token",
        );
      return { ...sampled, version };
    },
  };
}
