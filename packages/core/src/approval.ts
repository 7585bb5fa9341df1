import { z } from "zod";

/**
 * A person's word on one tool call before it runs. The port is all that the agent knows of it; who is asked and how (a terminal, files
 * below ALE's home, a dashboard, nobody) is the implementation's business.
 */

export const ApprovalRequest = z.object({
  id: z.string(),
  episode: z.string(),
  chunk: z.number().int().nonnegative(),
  callId: z.string(),
  /** Why it is asked: the rule that fired, or `ask:TOOL` where the tool itself needs approval. */
  rule: z.string(),
  /** The call as one would type it. Written by the agent: make it printable before it is shown. */
  what: z.string(),
  /** The sandbox lives no longer than this: unless it is answered by then, the answer is no. Default: the approver's own time. */
  withinMs: z.number().nonnegative().optional(),
});
export type ApprovalRequest = z.infer<typeof ApprovalRequest>;

export const ApprovalAnswer = z.object({
  granted: z.boolean(),
  /** Who answered: `user:NAME` or `token:ID`; else `policy` (nobody can be asked), `timeout` (nobody did), `cancelled` (nobody waits any more). */
  by: z.string().min(1),
  reason: z.string().optional(),
});
export type ApprovalAnswer = z.infer<typeof ApprovalAnswer>;

/** Whether it is a person's word, and its reason therefore meant to be told. */
export const isPersons = ({ by }: ApprovalAnswer): boolean => /^(?:user|token):/.test(by);

/** What was said of a request, to whoever comes second. */
export function saidBefore(id: string, { granted, by }: ApprovalAnswer): string {
  if (by === "timeout") return `nobody answered ${id} in time: it was refused`;
  if (by === "cancelled") return `${id} is asked no more: its episode was cancelled or stopped`;
  return `${id} was ${granted ? "approved" : "refused"} before, by ${by}`;
}

export interface Approver {
  /** How long an answer is waited for; 0 where it comes at once. */
  readonly timeoutMs: number;
  /** Resolves once, with a refusal when the time is up. Throws only what aborting throws, and where no request can be made. */
  ask(request: ApprovalRequest, signal?: AbortSignal): Promise<ApprovalAnswer>;
}

/** Nobody is there to be asked: training, evaluation, anything without a person. */
export const denyAll: Approver = {
  timeoutMs: 0,
  ask: async () => ({ granted: false, by: "policy", reason: "nobody is asked here" }),
};
