import { AleError } from "@ale/core";
import { z } from "zod";

/**
 * The part of the Tinker protocol that the client reads, parsed once at the border. Fields that are not named here are ignored,
 * as the protocol asks.
 */

export const SessionAnswer = z.object({ session_id: z.string() });
export const SamplingSessionAnswer = z.object({ sampling_session_id: z.string() });
export const CapabilitiesAnswer = z.object({
  supported_models: z.array(
    z.union([
      z.string(),
      z.object({ model_name: z.string(), max_context_length: z.number().int().nullish() }),
    ]),
  ),
});

/**
 * What a call that runs in the background answers. With the extension `"wait": true` the result stands beside the request id; a
 * server that does not know it leaves the result to be retrieved.
 */
export const FutureAnswer = z.object({
  request_id: z.union([z.string(), z.number()]).transform(String),
  result: z.unknown().optional(),
});

/** What retrieving a result may answer instead of the result. */
export const FailedFuture = z.object({
  error: z.string(),
  category: z.string().optional(),
});
export const TryAgain = z.object({ type: z.literal("try_again") });

export const CreateModelResult = z.object({ model_id: z.string() });
export const LoadWeightsResult = z.object({ model_id: z.string().optional() });
export const SaveWeightsResult = z.object({ path: z.string(), directory: z.string().optional() });
export const SaveForSamplerResult = z.object({
  path: z.string().nullish(),
  sampling_session_id: z.string().nullish(),
});
export const OptimResult = z.object({ metrics: z.record(z.string(), z.number()).nullish() });

/** Answers hold a number a token, tens of thousands at a time: one pass of our own is much faster than a schema on each. */
const numbers = z.custom<number[]>(
  (value) => Array.isArray(value) && value.every((item) => typeof item === "number"),
  "must be an array of numbers",
);

export const LossAnswer = z.object({
  loss_fn_outputs: z.array(z.object({ logprobs: z.object({ data: numbers }) })),
  metrics: z.record(z.string(), z.number()).nullish(),
});

export const SampleAnswer = z.object({
  sequences: z.array(
    z.object({ stop_reason: z.enum(["stop", "length"]), tokens: numbers, logprobs: numbers }),
  ),
});

/** Parses an answer, or throws `engine-protocol` that names the call and the first thing that is wrong. */
export function parseAnswer<T>(call: string, schema: z.ZodType<T>, answer: unknown): T {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue?.path.join(".") || "the answer";
  throw new AleError(
    "engine-protocol",
    `the engine's answer to ${call} is not understood: ${where}: ${issue?.message}`,
    {
      next: "check that the server speaks the Tinker protocol and that its version fits this one",
    },
  );
}
