import type { Message, Turn } from "@ale/core";
import type { Model } from "../src/index.ts";

type Call = readonly [name: string, args: Record<string, unknown>];

/** One chunk as a model would give it. Tokens are of no interest here: the gateway's tests look after them. */
export function chunk(
  calls: readonly Call[],
  fields: Partial<Turn> = {},
): Omit<Turn, "toolCalls"> & { calls: readonly Call[] } {
  return {
    contextTokens: [1],
    tokens: [2, 3],
    logprobs: [-0.1, -0.2],
    source: "policy",
    version: 7,
    stopReason: "stop",
    text: "",
    calls,
    ...fields,
  };
}

export const malformedChunk = (text: string, malformed: string) => chunk([], { text, malformed });

/** Plays chunks in order, keeps what it was shown, and then says that the context is full. */
export function scriptedModel(
  script: readonly (ReturnType<typeof chunk> | Error)[],
): Model & { readonly seen: readonly (readonly Message[])[] } {
  const seen: (readonly Message[])[] = [];
  return {
    seen,
    async next(messages, signal) {
      signal?.throwIfAborted();
      const turn = script[seen.length];
      seen.push(messages);
      if (turn === undefined) return { type: "context-full" };
      if (turn instanceof Error) throw turn;
      const { calls, ...rest } = turn;
      const toolCalls = calls.map(([name, args], i) => ({
        id: `call_${seen.length}_${i}`,
        name,
        arguments: args,
      }));
      return { ...rest, toolCalls };
    },
  };
}
