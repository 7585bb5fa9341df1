import type { ApprovalAnswer, Approver, Clock, Event, Ids, ToolCall } from "@ale/core";
import type { Hold, Sandbox } from "@ale/rock";

/**
 * A tool call that waits for a person, with question and answer in the log. Waiting is not the agent's time: the sandbox's clocks stand still
 * meanwhile. Where they do not, as on a server, half of what it has left to live is waited, and the other half is the agent's to go on.
 */

interface AskOptions {
  readonly episode: string;
  readonly approver: Approver;
  readonly sandbox: Sandbox;
  readonly emit: (event: Event) => void;
  readonly clock: Clock;
  readonly ids: Ids;
}

interface Question {
  readonly chunk: number;
  readonly call: ToolCall;
  /** Why it is asked; all of them are granted or none. */
  readonly rules: readonly string[];
}

/** Throws what aborting throws, and what an approver throws that cannot ask; either is in the log as a refusal. */
export async function askFor(
  options: AskOptions,
  question: Question,
  signal: AbortSignal,
): Promise<ApprovalAnswer> {
  const { approver, emit, clock, ids, episode } = options;
  const { chunk, call, rules } = question;
  const request = { id: ids.next("ap"), chunk, callId: call.id, rule: rules.join(", "), what: textOf(call) };
  using hold = await holdFor(options, signal);
  const livesMs = Math.floor(hold.heldMs + hold.leftMs / 2);
  const bound = livesMs < approver.timeoutMs ? { withinMs: livesMs } : {};
  emit({ type: "approval.request", ...request, timeoutMs: Math.min(livesMs, approver.timeoutMs) });
  const began = clock.monotonicMs();
  const tell = (answer: ApprovalAnswer): ApprovalAnswer => {
    const waitedMs = clock.monotonicMs() - began;
    emit({ type: "approval.answer", id: request.id, chunk, ...answer, waitedMs });
    return answer;
  };
  try {
    return tell(await approver.ask({ episode, ...request, ...bound }, signal));
  } catch (error) {
    tell({ granted: false, by: "cancelled" });
    throw error;
  }
}

/** How much longer than the wait the clocks stand still: until the answer is here. */
const GRACE_MS = 5_000;

async function holdFor({ sandbox, approver }: AskOptions, signal: AbortSignal): Promise<Hold> {
  const { timeoutMs } = approver;
  if (timeoutMs > 0) return sandbox.hold(timeoutMs + GRACE_MS, signal);
  return { heldMs: 0, leftMs: 0, [Symbol.dispose]: () => {} };
}

/** As one would type it. */
function textOf({ name, arguments: args }: ToolCall): string {
  return name === "bash" && typeof args.command === "string"
    ? `$ ${args.command}`
    : `[${name}] ${JSON.stringify(args)}`;
}
