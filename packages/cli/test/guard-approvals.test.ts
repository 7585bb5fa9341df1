import { join } from "node:path";
import type { ApprovalRequest } from "@ale/core";
import { ApprovalStore } from "@ale/guard";
import { describe, expect, it } from "vitest";
import { whoAnswers } from "../src/approvals.ts";
import { EXIT } from "../src/exit-codes.ts";
import { ale, temporaryHome } from "./support.ts";

const request: ApprovalRequest = {
  id: "ap_1",
  episode: "ep_1",
  chunk: 3,
  callId: "call_3",
  rule: "destructive-command",
  what: "$ rm -rf /etc\r\u001b[2Kls",
};

const storeOf = (home: string): ApprovalStore => new ApprovalStore(join(home, "approvals"));

describe("ale guard approvals", () => {
  it("lists what waits, with nothing in it that fools a terminal", async () => {
    const home = await temporaryHome();
    expect((await ale(home, "guard", "approvals")).stdout).toContain("nothing waits");
    const asked = storeOf(home).ask(request);
    const { stdout } = await ale(home, "guard", "approvals");
    expect(stdout).toContain("ap_1");
    expect(stdout).toContain("$ rm -rf /etc␍␛[2Kls");
    const listed = (await ale(home, "guard", "approvals", "--json")).json();
    expect(listed).toMatchObject({ ok: true, approvals: [{ id: "ap_1", chunk: 3, what: request.what }] });
    await ale(home, "guard", "deny", "ap_1");
    await asked;
  });

  it("answers with who and why, and tells the second that it came second", async () => {
    const home = await temporaryHome();
    const asked = storeOf(home).ask(request);
    const first = await ale(home, "guard", "approve", "ap_1", "--reason", "only a copy");
    expect(first).toMatchObject({ exitCode: EXIT.ok });
    expect(await asked).toEqual({ granted: true, by: whoAnswers(), reason: "only a copy" });
    const second = await ale(home, "guard", "deny", "ap_1", "--json");
    expect(second.exitCode).toBe(EXIT.failed);
    expect(second.json()).toMatchObject({ ok: false, error: { code: "approval-over" } });
    expect(second.stderr).toContain(`approved before, by ${whoAnswers()}`);
  });

  it.each(["", " ", "a", "ap_", "ap_01k4mz8", "ap_\u001b[31mx", "ap_9999999999"])(
    "answers nothing by %j, and says what would",
    async (word) => {
      const home = await temporaryHome();
      const store = storeOf(home);
      const asked = store.ask({ ...request, id: "ap_01k4mz8qr3" });
      for (const verb of ["approve", "deny"]) {
        const { exitCode, stderr } = await ale(home, "guard", verb, word);
        expect(exitCode).toBe(EXIT.usage);
        expect(stderr).toMatch(/next: /);
        expect(stderr).not.toContain("\u001b");
      }
      expect(store.pending()).toHaveLength(1);
      expect(await ale(home, "guard", "deny", "ap_01k4mz8q")).toMatchObject({ exitCode: EXIT.ok });
      expect(await asked).toMatchObject({ granted: false });
    },
  );
});
