import { userInfo } from "node:os";
import type { Approver } from "@ale/core";
import { approvalsOf } from "@ale/guard";
import { type Approvers, approvalMs, type Recipe, toolFault } from "@ale/roll";
import { usageError, wholeNumber } from "./args.ts";
import type { Io } from "./io.ts";
import { deepPrintable } from "./printable.ts";

/** Approvals on the command line: what is asked for, who is asked, and that a person is told of it. */

export const ASK = {
  type: "string",
  value: "TOOL",
  multiple: true,
  help: "every call of this tool (e.g. bash) needs a person's approval",
} as const;

/** Throws `usage` where there is no such tool: its calls would never be asked about. */
export function toolsToAsk(values: { readonly ask: readonly string[] | undefined }): readonly string[] {
  const names = values.ask ?? [];
  const fault = toolFault(names);
  if (fault !== undefined) throw usageError(`--ask: ${fault.message}`, fault.next);
  return names;
}

export const approveWithin = (values: {
  readonly "approve-within": string | undefined;
}): number | undefined => wholeNumber("--approve-within", values["approve-within"], { max: 86_400 });

/** As which the log names who answers at this machine. */
export const whoAnswers = (): string => `user:${userInfo().username}`;

export const firstLine = (text: string): string => {
  const [first = "", ...more] = text.split("\n");
  return more.length === 0 ? first : `${first} …`;
};

const ANSWERED_BY = "ale guard approve|deny ID, or /v1/approvals of ale rock serve";

/** Before a run begins: whether anybody will be asked, and what happens when nobody answers. */
export function tellWhoAnswers(recipe: Recipe, io: Io): void {
  const stages = recipe.stages.flatMap((stage, index) =>
    stage.type !== "sft" && stage.safety?.responses === "on" ? [{ stage, index, safety: stage.safety }] : [],
  );
  for (const { stage, index, safety } of stages) {
    const seconds = approvalMs(safety) / 1_000;
    const tools = safety.ask === undefined ? "" : `every call of ${safety.ask.join(", ")}, and `;
    const what = `${tools}whatever rules ask approval for,`;
    io.note(
      io.paint(
        "yellow",
        seconds === 0
          ? `stage ${index + 1} (${stage.type}): ${what} is refused: nobody is asked (approveWithin)`
          : `stage ${index + 1} (${stage.type}): ${what} waits ${seconds} s for ${ANSWERED_BY}; without an answer it is refused`,
      ),
    );
  }
}

/** Whoever answers the approvals of the home. Each question is told here too, because nobody may be looking at a list. */
export function announcedApprovers(io: Io): Approvers {
  return (timeoutMs): Approver => {
    const store = approvalsOf(io.home, timeoutMs);
    return {
      timeoutMs,
      async ask(request, signal) {
        const { id, what, rule, episode, chunk } = deepPrintable(request);
        io.progress.say(`? ${id} (${rule}; ${episode} chunk ${chunk}): ${firstLine(what)}`);
        const answer = await store.ask(request, signal);
        const { granted, by, reason } = deepPrintable(answer);
        const why = reason === undefined ? "" : `: ${reason}`;
        io.progress.say(`? ${id} ${granted ? "approved" : "refused"} by ${by}${why}`);
        return answer;
      },
    };
  };
}
