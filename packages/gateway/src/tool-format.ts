import type { ToolCall } from "@ale/core";
import type { Codec } from "./codec.ts";

/** How tool calls are written in tokens, and read back from them. Reading never repairs anything. */

/** A tool call before it has an id. */
export type Action = Pick<ToolCall, "name" | "arguments">;

export interface Parsed {
  /** Text beside the tool calls; all of the text when the chunk is malformed. */
  readonly text: string;
  /** In the order in which they were written; empty when malformed. */
  readonly actions: readonly Action[];
  /** Why this is not a well-formed tool call. */
  readonly malformed?: string;
}

export interface ToolFormat {
  /** Reads the tokens of one chunk, stop token included; a chunk without one was cut off and is malformed. */
  parse(tokens: readonly number[]): Parsed;
  /** The call as text, as it would be decoded from tokens. For people. */
  write(action: Action): string;
  /** The call as tokens, without the stop token, exactly as a policy trained on it should write it. */
  encode(action: Action): number[];
}

/** The tokens of a chunk before its stop token, and whether it had one. */
export function bodyOf(
  tokens: readonly number[],
  codec: Codec,
): { readonly body: readonly number[]; readonly complete: boolean } {
  const last = tokens.at(-1);
  const complete = last !== undefined && codec.stopTokens.includes(last);
  return { body: complete ? tokens.slice(0, -1) : tokens, complete };
}
