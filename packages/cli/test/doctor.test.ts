import { existsSync } from "node:fs";
import { baseImage } from "@ale/rock";
import { describe, expect, it } from "vitest";
import { checkMachine } from "../src/doctor.ts";
import { EXIT } from "../src/exit-codes.ts";
import { ale, temporaryHome } from "./support.ts";

const realHome = process.env.ALE_HOME ?? `${process.env.HOME}/.ale`;
const canSandbox = process.getuid?.() === 0 && existsSync(baseImage(realHome).rootfs);

describe("ale doctor", () => {
  it("names everything that an empty home lacks, with the command that mends it, and exits 3", async () => {
    const outcome = await ale(await temporaryHome(), "doctor", "--json");
    expect(outcome.exitCode).toBe(EXIT.missing);
    const { checks } = outcome.json() as { checks: { name: string; state: string; next?: string }[] };
    const engine = checks.find(({ name }) => name === "engine");
    expect(engine).toMatchObject({ state: "missing", next: "ale setup engine" });
    const sandbox = checks.find(({ name }) => name === "sandbox");
    expect(sandbox?.state).toBe("missing");
    expect(sandbox?.next).toBeTruthy();
    expect(checks.find(({ name }) => name === "node")?.state).toBe("ok");
    expect(outcome.stderr).toContain("next: ale setup engine");
  });

  it("does not take any file called python for the engine", async () => {
    const checks = [];
    const env = { ALE_ENGINE_PYTHON: "/bin/false" };
    for await (const check of checkMachine(await temporaryHome(), env, new AbortController().signal))
      checks.push(check);
    expect(checks.find(({ name }) => name === "engine")).toMatchObject({ state: "missing" });
  });

  it.skipIf(!canSandbox)(
    "starts a sandbox where one can be started (needs root and the base image)",
    async () => {
      const checks = [];
      for await (const check of checkMachine(realHome, {}, new AbortController().signal)) checks.push(check);
      expect(checks.find(({ name }) => name === "sandbox")).toMatchObject({
        state: "ok",
        found: expect.stringContaining("answered as agent"),
      });
    },
  );
});
