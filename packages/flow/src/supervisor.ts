import type { ToolCall } from "@ale/core";
import type { ToolOutcome } from "./tools/tool.ts";

/**
 * How somebody beside the agent (guard, a person) has a say in its tool calls: before one runs, after it ran and before the model
 * sees what came of it, and at any moment in between. What a supervisor wants recorded it records itself; the agent writes down the
 * call, then asks, then writes down the result.
 */
export interface Supervisor {
  /** Waits as long as it likes: a person may be asked here. */
  before?(chunk: number, call: ToolCall, signal: AbortSignal): Promise<CallDecision>;
  /** `outcome` is whole, before it is cut to what the model sees. Calls that were refused come here too, because their chunk has acted. */
  after?(chunk: number, call: ToolCall, outcome: TimedOutcome, signal: AbortSignal): Promise<CallReview>;
  /** Aborted: the call or the sampling that runs now is ended, and the episode is over. */
  readonly stop?: AbortSignal;
}

/** What a tool made of a call, and how long the agent waited for it. */
export type TimedOutcome = ToolOutcome & { readonly durationMs: number };

export type CallDecision =
  | { readonly type: "proceed" }
  /** The call does not run; the model sees `content` as its result. With `stop` the episode ends after it. */
  | { readonly type: "refuse"; readonly content: string; readonly stop?: boolean };

export interface CallReview {
  /** Stands below what the tool said. */
  readonly note?: string;
  readonly stop?: boolean;
}
