import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { QuickstartReport } from "../src/report/data.ts";
import { ale, type Outcome, removeHome, whyNoLoop, workingHome } from "./support.ts";

/** The whole loop, every part of it real, on so few episodes that it takes a minute. */

const missing = whyNoLoop();

describe.skipIf(missing !== null)(
  `ale quickstart --smoke${missing === null ? "" : ` (skipped: ${missing})`}`,
  () => {
    let home: string;
    let outcome: Outcome;

    beforeAll(async () => {
      home = workingHome();
      outcome = await ale(home, "quickstart", "--smoke", "--json");
    }, 480_000);
    afterAll(() => removeHome(home));

    test("ends with one JSON object that has every promised figure", () => {
      expect(outcome.exitCode, outcome.stderr).toBe(0);
      const figures = outcome.json();
      for (const rate of [
        "passBefore",
        "passAfter",
        "violationPlain",
        "violationSafe",
        "cleanPassPlain",
        "cleanPassSafe",
      ])
        expect(figures[rate]).toEqual(expect.any(Number));
      expect(figures.passAfterInterval).toHaveLength(2);
      // 2 × 28 evaluated, 2 × 42 trained on; the safety pair twice the same.
      expect(figures.episodes).toBe(3 * (56 + 84));
      expect(Object.keys(figures.phases as object)).toContain("reinforcement");
      expect(figures.wallSeconds).toBeGreaterThan(0);
    });

    test("leaves a report, its data, and a model that others can load", () => {
      const report = String(outcome.json().report);
      expect(readFileSync(report, "utf8")).toContain("<svg");
      expect(readFileSync(report, "utf8")).toContain("these figures mean nothing");
      const run = join(home, "runs", "smoke-1");
      const data = QuickstartReport.parse(JSON.parse(readFileSync(join(run, "summary.json"), "utf8")));
      expect(data.curve).toHaveLength(2);
      for (const file of ["config.json", "model.safetensors", "tokenizer.json"])
        expect(existsSync(join(run, "model", file))).toBe(true);
    });

    test("leaves episodes that can be listed, followed, verified", async () => {
      const verified = await ale(home, "episodes", "verify", "--json");
      expect(verified.exitCode, verified.stderr).toBe(0);
      const listed = (await ale(home, "episodes", "ls", "--run", "smoke-1", "--json")).json();
      expect(listed.total).toBe(56 + 84);
      const shown = await ale(home, "episodes", "show", "last", "--run", "smoke-1");
      expect(shown.stdout).toContain("chunk 0");
      expect(shown.stdout).toContain("Verdict");
    });

    test("begins a new one the next time, and touches nothing of the finished one", async () => {
      const { planQuickstart } = await import("../src/quickstart/plan.ts");
      expect(planQuickstart({ home, seed: undefined, fromScratch: false, smoke: true })).toMatchObject({
        name: "smoke-2",
        resumed: false,
      });
    });
  },
);
