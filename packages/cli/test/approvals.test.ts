import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { approvalsOf } from "@ale/guard";
import { describe, expect, it, vi } from "vitest";
import { announcedApprovers } from "../src/approvals.ts";
import { EXIT } from "../src/exit-codes.ts";
import { createIo } from "../src/io.ts";
import { ale, temporaryHome } from "./support.ts";

const MODEL = resolve(import.meta.dirname, "../../../models/nano-warm");

async function recipe(home: string, safety: string): Promise<string> {
  const path = join(home, "recipe.yaml");
  await writeFile(
    path,
    `
schema: ale/recipe@1
name: asks
seed: 1
model: { directory: ${MODEL} }
stages:
  - { type: evaluate, label: watched, tasks: 1, safety: ${safety} }
`,
  );
  return path;
}

describe("a run that asks people", () => {
  it.each([
    [
      "{ responses: on, ask: [bash], approveWithin: 30 }",
      /stage 1 \(evaluate\): every call of bash, and whatever rules ask approval for, waits 30 s for ale guard approve.*\/v1\/approvals.*without an answer it is refused/,
    ],
    ["{ responses: on, ask: [bash] }", /every call of bash.* waits 600 s/],
    ["{ responses: on }", /whatever rules ask approval for, is refused: nobody is asked \(approveWithin\)/],
  ])("says so before it begins: %s", async (safety, said) => {
    // This home has nothing with which a run could begin.
    const home = await temporaryHome();
    const outcome = await ale(home, "train", await recipe(home, safety));
    expect(outcome.exitCode).toBe(EXIT.missing);
    expect(outcome.stderr).toMatch(said);
  });

  it("says nothing where nothing is asked", async () => {
    const home = await temporaryHome();
    expect((await ale(home, "train", await recipe(home, "{ collectors: all }"))).stderr).not.toMatch(
      /asked|waits/,
    );
    expect((await ale(home, "bench", "run", "--tasks", "1")).stderr).not.toMatch(/asked|waits/);
  });

  it("can be a benchmark too", async () => {
    const home = await temporaryHome();
    const bench = (...more: string[]) => ale(home, "bench", "run", "--tasks", "1", ...more);
    expect((await bench("--ask", "bash", "--approve-within", "5")).stderr).toMatch(
      /every call of bash.* waits 5 s/,
    );
    const typo = await bench("--ask", "bahs");
    expect([typo.exitCode, typo.stderr]).toEqual([EXIT.usage, expect.stringContaining("did you mean bash?")]);
    expect((await bench("--approve-within", "5")).exitCode).toBe(EXIT.usage);
  });

  it("tells each question and its answer, with nothing in it that fools a terminal", async () => {
    const home = await temporaryHome();
    let said = "";
    const out = { write: (text: string) => (said += text) };
    const io = createIo({ home, json: false, yes: false, env: {}, stdout: out, stderr: out });
    const asked = announcedApprovers(io)(60_000).ask({
      id: "ap_1",
      episode: "ep_1",
      chunk: 2,
      callId: "call_2",
      rule: "ask:bash",
      what: "$ rm -rf build\u001b[2K\n$ ls",
    });
    await vi.waitFor(() => expect(said).toBe("? ap_1 (ask:bash; ep_1 chunk 2): $ rm -rf build␛[2K …\n"));
    approvalsOf(home).answer("ap_1", { granted: false, by: "token:tok-1", reason: "not\u001b[2K now" });
    expect(await asked).toMatchObject({ granted: false });
    expect(said).toContain("? ap_1 refused by token:tok-1: not␛[2K now\n");
  });
});
