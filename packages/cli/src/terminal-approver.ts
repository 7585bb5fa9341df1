import { createInterface } from "node:readline";
import type { ApprovalAnswer, ApprovalRequest, Approver } from "@ale/core";
import type { ApprovalStore } from "@ale/guard";
import { whoAnswers } from "./approvals.ts";
import type { HeldLines } from "./held-lines.ts";
import type { In, Io } from "./io.ts";
import { deepPrintable } from "./printable.ts";

/**
 * Asks on this terminal, while the request can be answered from any other: what is typed here is one more answer to the stored request, and
 * the first one counts. Only a y or yes that was typed after the question was there lets a call run. Until then nothing else is printed.
 */
export function terminalApprover(
  store: ApprovalStore,
  io: Io,
  input: In,
  lines: Pick<HeldLines, "hold">,
): Approver {
  return {
    timeoutMs: store.timeoutMs,
    async ask(request, signal) {
      const asked = store.ask(request, signal);
      const answered = new AbortController();
      using _held = lines.hold();
      const over = asked.finally(() => answered.abort());
      // Its failure is the caller's to hear of, through `asked`.
      over.catch(() => {});
      question(request, Math.min(store.timeoutMs, request.withinMs ?? Infinity), io);
      await typed(input, io, answered.signal).then((granted) => {
        if (granted !== null)
          store.answer(request.id, { granted, by: whoAnswers(), reason: "on the terminal" });
      });
      const answer = await asked;
      io.note(outcome(deepPrintable(answer)));
      return answer;
    },
  };
}

/** A line that arrives so soon was typed before the question could be read. */
const READING_MS = 250;

/** Null where the question was over before anything was typed, or nothing can be typed any more. */
function typed(input: In, io: Io, over: AbortSignal): Promise<boolean | null> {
  return new Promise((resolve) => {
    const lines = createInterface({ input, terminal: false });
    const shownAt = performance.now();
    const finish = (answer: boolean | null): void => {
      over.removeEventListener("abort", onOver);
      lines.removeAllListeners();
      lines.close();
      resolve(answer);
    };
    const onOver = (): void => finish(null);
    lines.on("line", (line) => {
      if (performance.now() - shownAt < READING_MS) io.note("  (typed before the question: not counted)");
      else finish(/^\s*y(es)?\s*$/i.test(line));
    });
    lines.on("close", () => finish(null));
    // A terminal that was closed while it was read.
    lines.on("error", () => finish(null));
    over.addEventListener("abort", onOver, { once: true });
    if (over.aborted) onOver();
  });
}

function question(recorded: ApprovalRequest, timeoutMs: number, io: Io): void {
  const { id, rule, what } = deepPrintable(recorded);
  io.note(io.paint("yellow", `? needs your approval (${rule}):`));
  for (const line of what.split("\n")) io.note(`    ${line}`);
  const other = `or from elsewhere: ale guard approve ${id}`;
  io.note(io.paint("yellow", `  let it run? y/N, within ${Math.round(timeoutMs / 1000)} s; ${other}`));
}

const outcome = ({ granted, by, reason }: ApprovalAnswer): string =>
  `  ${granted ? "approved" : "refused"} by ${by}${reason === undefined ? "" : `: ${reason}`}`;
