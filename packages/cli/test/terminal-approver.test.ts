import { join } from "node:path";
import { PassThrough } from "node:stream";
import type { ApprovalRequest } from "@ale/core";
import { ApprovalStore } from "@ale/guard";
import { describe, expect, it, vi } from "vitest";
import { whoAnswers } from "../src/approvals.ts";
import { heldLines } from "../src/held-lines.ts";
import { createIo } from "../src/io.ts";
import { terminalApprover } from "../src/terminal-approver.ts";
import { temporaryHome } from "./support.ts";

const request: ApprovalRequest = {
  id: "ap_1",
  episode: "ep_1",
  chunk: 0,
  callId: "call_0",
  rule: "ask:bash",
  what: "$ rm -rf build\r\u001b[2K$ ls",
};

/** A terminal on which nobody has typed yet. */
async function terminal(timeoutMs = 60_000) {
  const home = await temporaryHome();
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  let shown = "";
  const stderr = { write: (text: string) => (shown += text), isTTY: true };
  const io = createIo({
    home,
    json: false,
    yes: true,
    env: { NO_COLOR: "1" },
    stdout: stderr,
    stderr,
    stdin,
  });
  const store = new ApprovalStore(join(home, "approvals"), { timeoutMs });
  const lines = heldLines((line) => io.print(line));
  const approver = terminalApprover(store, io, io.terminal!, lines);
  return {
    approver,
    lines,
    store,
    stdin,
    shown: () => shown,
    /** Types again and again: what comes before the question could be read does not count. */
    async type(text: string): Promise<void> {
      await vi.waitFor(() => expect(shown).toContain("y/N"));
      const timer = setInterval(() => stdin.write(`${text}\n`), 100);
      await vi.waitFor(() => expect(store.pending()).toEqual([]), { timeout: 20_000 });
      clearInterval(timer);
    },
  };
}

describe("an approval on the terminal", () => {
  it("is given with y, and shows the command without what could fool the reader", async () => {
    const { approver, type, shown } = await terminal();
    const asked = approver.ask(request);
    await type("y");
    expect(await asked).toMatchObject({ granted: true, by: whoAnswers() });
    expect(shown()).toContain("$ rm -rf build␍␛[2K$ ls");
    expect(shown()).toContain("ask:bash");
  });

  it.each(["", "n", "yess", "sure"])("is refused with %j", async (word) => {
    const { approver, type } = await terminal();
    const asked = approver.ask(request);
    await type(word);
    expect(await asked).toMatchObject({ granted: false, by: whoAnswers() });
  });

  it("does not take what was typed before the question", async () => {
    const { approver, stdin, shown, store } = await terminal();
    stdin.write("y\n");
    const asked = approver.ask(request);
    await vi.waitFor(() => expect(shown()).toContain("typed before the question"));
    expect(store.pending()).toHaveLength(1);
    store.answer("ap_1", { granted: false, by: "user:ada" });
    await asked;
  });

  it("can come from elsewhere, and the terminal is told", async () => {
    const { approver, store, shown } = await terminal();
    const asked = approver.ask(request);
    store.answer("ap_1", { granted: true, by: "user:ada", reason: "a copy" });
    expect(await asked).toEqual({ granted: true, by: "user:ada", reason: "a copy" });
    expect(shown()).toContain("approved by user:ada: a copy");
  });

  it("stands alone until it is answered: what is told meanwhile comes after the answer", async () => {
    const { approver, lines, store, shown } = await terminal();
    lines.print("before");
    const asked = approver.ask(request);
    for (let n = 0; n < 1_003; n++) lines.print(`file.read ${n}`);
    expect(shown()).toMatch(/before\n\? needs your approval/);
    expect(shown()).not.toContain("file.read");
    store.answer("ap_1", { granted: true, by: "user:ada" });
    await asked;
    expect(shown()).toMatch(/approved by user:ada\nfile\.read 0\n.*file\.read 999\n {2}… 3 more lines/s);
    lines.print("after");
    expect(shown()).toMatch(/after\n$/);
  });

  it.each(["error", "end"])("goes on without a terminal that is gone (%s)", async (how) => {
    const { approver, stdin, store } = await terminal();
    const asked = approver.ask(request);
    if (how === "error") stdin.destroy(Object.assign(new Error("read EIO"), { code: "EIO" }));
    else stdin.end();
    store.answer("ap_1", { granted: false, by: "user:ada" });
    expect(await asked).toMatchObject({ by: "user:ada" });
  });

  it("is refused when the time is up", async () => {
    const { approver, shown } = await terminal(30);
    expect(await approver.ask(request)).toEqual({ granted: false, by: "timeout" });
    expect(shown().match(/refused by timeout/g)).toHaveLength(1);
  });

  it("is not given by a terminal that is gone", async () => {
    const { approver, stdin } = await terminal(500);
    stdin.end();
    expect(await approver.ask(request)).toMatchObject({ granted: false, by: "timeout" });
  });

  it("ends with the episode that asked", async () => {
    const { approver, store } = await terminal();
    const controller = new AbortController();
    const asked = approver.ask(request, controller.signal);
    controller.abort(new Error("over"));
    await expect(asked).rejects.toThrow("over");
    expect(store.pending()).toEqual([]);
  });
});
