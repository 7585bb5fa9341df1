import { AleError, type ApprovalAnswer, saidBefore } from "@ale/core";
import { approvalsOf } from "@ale/guard";
import { firstLine, whoAnswers } from "../approvals.ts";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { deepPrintable } from "../printable.ts";
import { table } from "../table.ts";

/** `ale guard approvals|approve|deny`: tool calls that wait for a person's word, and that word. */

const listUsage = defineUsage({
  positionals: "",
  options: {},
  notes: `
A request is here as long as an episode waits for it: until it is answered, its time is up, or the process that asked has ended.
What it shows was written by the agent; characters that could fool a terminal are made visible.`,
});

export const list: Action = {
  usage: listUsage,
  async run(argv, io) {
    parseArguments(listUsage, argv);
    const pending = approvalsOf(io.home).pending();
    const shown = deepPrintable(pending);
    if (shown.length === 0) io.print("nothing waits for approval");
    else {
      const rows = shown.map(({ id, rule, episode, chunk, leftMs, what }) => {
        const left = `${Math.round(leftMs / 1000)} s`;
        return [id, left, rule, `${episode} chunk ${chunk}`, firstLine(what)];
      });
      const titles = ["left", "rule", "episode", "what"].map((title) => ({ title }));
      const columns = [{ title: "id", whole: true as const }, ...titles];
      const [head = "", ...body] = table(columns, rows, io.columns);
      io.print(io.paint("dim", head));
      for (const line of body) io.print(line);
      io.print(io.paint("dim", "ale guard approve ID, or: ale guard deny ID"));
    }
    io.result({ ok: true, approvals: pending });
    return EXIT.ok;
  },
};

const answerUsage = defineUsage({
  positionals: "ID",
  options: {
    reason: { type: "string", value: "TEXT", help: "is recorded, and told to the agent with a refusal" },
  },
  notes: `
ID is what ale guard approvals shows, or a beginning of it, with 8 characters after ap_ or more, that no other has which waits. The first answer
counts; exits 1 when this one came second, or nobody waits for it any more.`,
});

export const approve: Action = {
  usage: answerUsage,
  run: async (argv, io) => answer(true, argv, io),
};

export const deny: Action = {
  usage: answerUsage,
  run: async (argv, io) => answer(false, argv, io),
};

function answer(granted: boolean, argv: readonly string[], io: Io): number {
  const { values, positionals } = parseArguments(answerUsage, argv);
  const store = approvalsOf(io.home);
  const request = deepPrintable(store.find(positionals[0]!));
  const { reason } = values;
  const given: ApprovalAnswer = { granted, by: whoAnswers(), ...(reason === undefined ? {} : { reason }) };
  const answered = store.answer(request.id, given);
  const place = `${request.episode}, chunk ${request.chunk}`;
  if (answered.type === "abandoned")
    throw new AleError("approval-abandoned", `nobody waits for ${request.id} any more`, {
      next: "ale guard approvals lists what does",
    });
  if (answered.type === "late")
    throw new AleError("approval-over", saidBefore(request.id, deepPrintable(answered.answer)), {
      next: "ale guard approvals lists what still waits",
    });
  io.print(`${granted ? "approved" : "refused"}: ${firstLine(request.what)}  (${place})`);
  io.result({ ok: true, id: request.id, granted });
  return EXIT.ok;
}
