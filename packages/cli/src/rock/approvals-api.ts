import { AleError, saidBefore } from "@ale/core";
import {
  type ApprovalChange,
  type ApprovalState,
  type ApprovalStore,
  approvalChanges,
  type GivenAnswer,
} from "@ale/guard";
import { type AppPlugin, type Caller, gone, NO_TOKEN, problems, sendEvents } from "@ale/rock/server";
import { z } from "zod";

/**
 * Approvals over HTTP, beside the native API and under its authentication. They are of a home, not of a tenant, so only an administrator's
 * token may see and answer them. A program without a token is nobody, also where calls without one are trusted otherwise: the log must say
 * who it was.
 */

const Asked = {
  id: z.string(),
  episode: z.string(),
  chunk: z.number().int(),
  callId: z.string(),
  rule: z.string().describe("Why it is asked: the rules that fired, or `ask:TOOL`."),
  what: z
    .string()
    .describe("The call as one would type it. Written by the agent: show it as text, never as markup."),
  withinMs: z
    .number()
    .optional()
    .describe("The sandbox lives no longer than this; what is waited for is bounded by it."),
  askedAt: z.number().describe("Milliseconds since the epoch."),
};
const Pending = z
  .object({ ...Asked, leftMs: z.number().describe("How long it is still waited for.") })
  .meta({ id: "PendingApproval" });
const Answer = z
  .object({
    granted: z.boolean(),
    by: z.string().describe("`user:NAME`, `token:ID`, `policy`, `timeout` or `cancelled`."),
    reason: z.string().optional(),
    at: z.number().describe("Milliseconds since the epoch."),
  })
  .meta({ id: "ApprovalAnswer" });
const State = z
  .object({
    ...Asked,
    state: z.enum(["pending", "answered", "abandoned"]).describe("`abandoned`: who asked has ended."),
    leftMs: z.number().optional().describe("Of a pending one: how long it is still waited for."),
    answer: Answer.optional(),
  })
  .meta({ id: "Approval" });
type State = z.infer<typeof State>;

const Params = z.object({ approvalId: z.string().max(64) });
const Body = z.strictObject({
  granted: z.boolean(),
  reason: z.string().max(2_000).optional().describe("Is recorded, and told to the agent with a refusal."),
});

const tags = ["approvals"];
const config = { scope: "admin" } as const;

export const approvalsApi =
  (store: ApprovalStore): AppPlugin =>
  (app, { closing }) => {
    app.get(
      "/v1/approvals",
      {
        config,
        schema: {
          tags,
          summary: "List the tool calls that wait for a person, the oldest first",
          response: { 200: z.object({ approvals: z.array(Pending) }), ...problems },
        },
      },
      async () => ({ approvals: [...store.pending()] }),
    );

    app.get(
      "/v1/approvals/events",
      {
        config,
        schema: {
          tags,
          summary: "What becomes of approvals, as server-sent events",
          description:
            "Events: `asked` (a PendingApproval; those that wait already come first), `over` {id, answer: an ApprovalAnswer, or null where nobody waits any more}, `error` (a problem).",
          answers: "text/event-stream",
          response: problems,
        },
      },
      async (request, reply) =>
        sendEvents(reply, eventsOf(approvalChanges(store, gone(request, reply, closing)))),
    );

    app.get(
      "/v1/approvals/:approvalId",
      {
        config,
        schema: {
          tags,
          summary: "What became of one, for a day",
          params: Params,
          response: { 200: State, ...problems },
        },
      },
      async ({ params }) => shown(found(store, params.approvalId)),
    );

    app.post(
      "/v1/approvals/:approvalId",
      {
        config,
        schema: {
          tags,
          summary: "Answer it",
          description:
            "The first answer counts: `409` names the one that came before, `410` means that who asked has ended, `404` that there was no such request in the last day.",
          params: Params,
          body: Body,
          response: { 200: State, ...problems },
        },
      },
      async ({ params, body, caller }) => {
        const { granted, reason } = body;
        const by = nameOf(caller);
        const { id } = found(store, params.approvalId).approval;
        const answered = store.answer(id, { granted, by, ...(reason === undefined ? {} : { reason }) });
        if (answered.type === "abandoned") throw abandoned(id);
        if (answered.type === "late") throw late(id, answered.answer);
        return shown(found(store, id));
      },
    );
  };

/** As which the log names who answers. */
function nameOf({ tokenId }: Caller): string {
  if (tokenId !== NO_TOKEN) return `token:${tokenId}`;
  throw new AleError("forbidden", "an approval is somebody's word: a call without a token is nobody's", {
    next: "send an administrator's token",
  });
}

function found(store: ApprovalStore, id: string): ApprovalState {
  const state = store.get(id);
  if (state !== undefined) return state;
  throw new AleError("approval-unknown", `there was no approval ${id} in the last day`, {
    next: "GET /v1/approvals lists what waits",
  });
}

function shown(state: ApprovalState): State {
  switch (state.type) {
    case "pending":
      return { ...state.approval, state: "pending" };
    case "answered":
      return { ...state.approval, state: "answered", answer: state.answer };
    case "abandoned":
      return { ...state.approval, state: "abandoned" };
    default:
      return state satisfies never;
  }
}

const abandoned = (id: string): AleError =>
  new AleError("approval-abandoned", `nobody waits for ${id} any more: the process that asked has ended`, {
    next: "GET /v1/approvals lists what waits",
  });

const late = (id: string, answer: GivenAnswer): AleError =>
  new AleError("approval-over", saidBefore(id, answer), {
    next: `GET /v1/approvals/${id} has that answer`,
  });

async function* eventsOf(
  changes: AsyncIterable<ApprovalChange>,
): AsyncGenerator<{ event: string; data: unknown }> {
  for await (const change of changes)
    yield change.type === "asked"
      ? { event: "asked", data: change.approval }
      : { event: "over", data: { id: change.id, answer: change.answer } };
}
