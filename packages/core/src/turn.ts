import type { ToolCall } from "./tool-call.ts";

/** One chunk as it came from the model, with the tokens that were added to the context before it. */
export interface Turn {
  /** Tokens added since the end of the previous turn; the whole prompt in the first turn and in a forked one. */
  readonly contextTokens: readonly number[];
  /** The chunk itself, stop token included. */
  readonly tokens: readonly number[];
  /** One a token; empty for scripted experts. */
  readonly logprobs: readonly number[];
  readonly source: "policy" | "expert";
  readonly version: number | null;
  readonly stopReason: "stop" | "length";
  /** Text beside the tool calls; all of it when malformed. What the assistant message of the context must carry. */
  readonly text: string;
  readonly toolCalls: readonly ToolCall[];
  readonly malformed?: string;
  /** The history was rewritten: this turn does not continue the tokens of the one before, and training starts a new sequence. */
  readonly forked?: true;
}

/** There is no room for another chunk of the profile's length. */
export type ContextFull = { readonly type: "context-full" };
