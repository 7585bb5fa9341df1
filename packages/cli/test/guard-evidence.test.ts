import { mkdirSync, symlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Limits } from "@ale/core";
import { openOciDriver, quarantine } from "@ale/rock";
import { describe, expect, it } from "vitest";
import { EXIT } from "../src/exit-codes.ts";
import { ale, machineHome, recordEpisode, temporaryHome, whyNoSandbox } from "./support.ts";

const EPISODE = "ep_01kevidence";

/** With one sandbox in quarantine, as `ale run` leaves it. */
async function homeWithEvidence(): Promise<string> {
  const home = await temporaryHome();
  mkdirSync(join(home, "images"));
  symlinkSync(join(machineHome, "images", "ale-base"), join(home, "images", "ale-base"));
  await using driver = openOciDriver({ home });
  const box = await driver.create({
    image: "ale/base",
    files: [],
    network: { mode: "none" },
    workdir: "/work",
    limits: Limits.parse({}),
  });
  await box.shell.run("echo loot > loot");
  const labels = { quarantine: "no-loot", episode: EPISODE };
  await quarantine(driver, box, { id: EPISODE, labels });
  const { stdout } = await ale(home, "guard", "evidence", "ls");
  expect(stdout).toMatch(/ep_01kevidence +no-loot .* ale\/evidence:ep_01kevidence .*process \d+, /);
  return home;
}

describe("ale guard evidence", () => {
  it("says so where there is none, and what is wrong with what is asked", async () => {
    const home = await temporaryHome();
    expect((await ale(home, "guard", "evidence", "ls")).stdout).toBe("no evidence\n");
    const unknown = await ale(home, "guard", "evidence", "release", "ep_9", "--reason", "x");
    expect(unknown).toMatchObject({ exitCode: EXIT.usage });
    expect(unknown.stderr).toContain("there is no evidence");
    const silent = await ale(home, "guard", "evidence", "release", "ep_9");
    expect(silent).toMatchObject({ exitCode: EXIT.usage });
    expect(silent.stderr).toContain("--reason TEXT");
  });

  it.skipIf(whyNoSandbox() !== null)(
    "lets go only what a person releases, and only when the episode is over",
    async () => {
      const home = await homeWithEvidence();
      const short = await ale(home, "guard", "evidence", "release", "ep_01k", "--reason", "x", "--unsealed");
      expect([short.exitCode, short.stderr]).toEqual([EXIT.usage, expect.stringContaining("too short")]);
      const release = (...more: string[]) =>
        ale(home, "guard", "evidence", "release", "ep_01kevide", "--reason", "case closed", ...more);
      expect((await release()).stderr).toContain("is not in");
      const path = await recordEpisode(home, "run", { id: EPISODE, violation: true, sealed: false });
      const open = await release();
      expect(open).toMatchObject({ exitCode: EXIT.failed });
      expect(open.stderr).toMatch(/its log is not sealed.*--unsealed/s);
      expect((await ale(home, "guard", "evidence", "prune")).stdout).toBe("0 removed, 1 not released\n");
      await rm(path);
      await recordEpisode(home, "run", { id: EPISODE, violation: true });
      expect((await release()).stdout).toContain("released ep_01kevidence");
      expect((await ale(home, "guard", "evidence", "ls")).stdout).toMatch(/released by user:.*1 released/s);
      const pruned = await ale(home, "guard", "evidence", "prune", "--json");
      expect(pruned.json()).toMatchObject({ ok: true, removed: [{ id: EPISODE }], held: 0 });
      const left = (await ale(home, "guard", "evidence", "ls", "--all", "--json")).json();
      expect(left).toMatchObject({
        evidence: [{ files: { type: "removed" }, released: { reason: "case closed" } }],
      });
    },
    60_000,
  );
});
