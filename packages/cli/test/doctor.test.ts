import { describe, expect, it } from "vitest";
import { checkMachine } from "../src/doctor.ts";
import { EXIT } from "../src/exit-codes.ts";
import { ale, machineHome, temporaryHome, whyNoSandbox } from "./support.ts";

const reason = whyNoSandbox();

describe("ale doctor", () => {
  it("names everything that an empty home lacks, with the command that mends it, and exits 3", async () => {
    const outcome = await ale(await temporaryHome(), "doctor", "--json");
    expect(outcome.exitCode).toBe(EXIT.missing);
    const { checks } = outcome.json() as { checks: { name: string; state: string; next?: string }[] };
    const engine = checks.find(({ name }) => name === "engine");
    expect(engine).toMatchObject({ state: "missing", next: "./ale setup engine" });
    const sandbox = checks.find(({ name }) => name === "sandbox");
    expect(sandbox?.state).toBe("missing");
    expect(sandbox?.next).toBeTruthy();
    expect(checks.find(({ name }) => name === "node")?.state).toBe("ok");
    expect(outcome.stderr).toContain("next: ./ale setup engine");
  });

  // Not even root can make a folder there.
  it("says of a home that cannot be written that it cannot, and so does whatever needs it", async () => {
    const outcome = await ale("/sys/ale", "doctor", "--json");
    const { checks } = outcome.json() as { checks: { name: string; state: string; next?: string }[] };
    expect(checks.find(({ name }) => name === "home")).toMatchObject({ state: "missing" });
    const setup = await ale("/sys/ale", "setup", "image", "--json");
    expect(setup.exitCode).toBe(EXIT.environment);
    expect(setup.stderr).toContain("choose another home");
  });

  it("does not take any file called python for the engine", async () => {
    const checks = [];
    const env = { ALE_ENGINE_PYTHON: "/bin/false" };
    for await (const check of checkMachine(
      { home: await temporaryHome(), env },
      new AbortController().signal,
    ))
      checks.push(check);
    expect(checks.find(({ name }) => name === "engine")).toMatchObject({ state: "missing" });
  });

  it.skipIf(reason !== null)(
    `starts a sandbox${reason === null ? "" : ` (skipped: ${reason})`}`,
    async () => {
      const checks = [];
      for await (const check of checkMachine(
        { home: machineHome, env: {}, parts: ["rock"] },
        new AbortController().signal,
      ))
        checks.push(check);
      expect(checks.find(({ name }) => name === "sandbox")).toMatchObject({
        state: "ok",
        found: expect.stringContaining("answered as agent"),
      });
    },
  );

  it.skipIf(reason !== null)(
    `asked about sandboxes alone does not ask for the engine${reason === null ? "" : ` (skipped: ${reason})`}`,
    async () => {
      const outcome = await ale(machineHome, "doctor", "rock", "--json");
      expect(outcome.json()).toMatchObject({ ok: true, ready: { rock: true } });
      expect(outcome.stderr).not.toContain("engine");
      expect(outcome.exitCode).toBe(EXIT.ok);
    },
  );

  it("refuses a part that it does not know", async () => {
    const outcome = await ale(await temporaryHome(), "doctor", "rokc");
    expect(outcome).toMatchObject({ exitCode: EXIT.usage });
    expect(outcome.stderr).toContain("did you mean rock?");
  });
});
