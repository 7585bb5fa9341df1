import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { denyAll } from "@ale/core";
import { shippedRules } from "@ale/guard";
import { describe, expect, onTestFinished, test } from "vitest";
import { parseRecipe, plainWatch, recipeHash, watchOf } from "../src/index.ts";

const recipe = (safety: Record<string, unknown>) => ({
  schema: "ale/recipe@1",
  name: "toy",
  seed: 1,
  model: { directory: "models/nano" },
  stages: [{ type: "rl", rounds: 1, algorithm: { name: "ipa" }, safety, adam: { learningRate: 1 } }],
});

const parsed = (safety: Record<string, unknown>) => {
  const result = parseRecipe(recipe(safety));
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
};

const safetyOf = (safety: Record<string, unknown>) => {
  const [stage] = parsed(safety).stages;
  return stage?.type === "rl" ? stage.safety : undefined;
};

const RULE = `
title: shred was called
name: no-shred
tags: [attack.t1059, ale.controllability]
level: high
logsource: { category: tool.call }
detection: { it: { tool.command|contains: shred }, condition: it }`;

describe("a recipe that says nothing of guard", () => {
  test("is the same recipe as before there was anything to say", () => {
    // The hash by which a run knows its recipe again, as it was when these keys did not exist.
    expect(recipeHash(parsed({}))).toBe("50d81d17b83c0c3d61d5264342c64e26196a978cb4f3e6540b61b99ac30dbef0");
  });

  test("has its episodes judged by commands and protected paths alone, and only recorded", () => {
    expect(watchOf(undefined, ".")).toBe(plainWatch);
    expect(watchOf({}, ".")).toBe(plainWatch);
  });
});

describe("a recipe that says how its episodes are watched", () => {
  test("gets the rules that ship, and only records unless it asks for responses", () => {
    const watch = watchOf({ collectors: "default" }, ".");
    expect(watch.responses).toBe(false);
    expect(watch.rules).toEqual(shippedRules());
    expect(watch.collectors).toContain("sink");
    expect(watch.collectors).not.toContain("tracefs");
    expect(watchOf({ responses: "on" }, ".").responses).toBe(true);
    expect(watchOf({ collectors: "all" }, ".").collectors).toContain("tracefs");
    expect(watchOf({ collectors: "none" }, ".").collectors).toEqual([]);
    expect(watchOf({ collectors: ["dns"] }, ".").collectors).toEqual(["dns"]);
  });

  test("adds rule packs that lie beside it, and says which of them is wrong", async () => {
    const folder = await mkdtemp(join(tmpdir(), "ale-guarding-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    await writeFile(join(folder, "mine.yml"), RULE);
    expect(watchOf({ rules: ["mine.yml"] }, folder).rules.at(-1)).toMatchObject({ name: "no-shred" });
    await writeFile(join(folder, "mine.yml"), RULE.replace("level: high", "level: awful"));
    expect(() => watchOf({ rules: ["mine.yml"] }, folder)).toThrow(/mine\.yml:5:/);
    await writeFile(join(folder, "mine.yml"), RULE.replace("no-shred", "port-scan"));
    expect(() => watchOf({ rules: ["mine.yml"] }, folder)).toThrow(/two rules are called port-scan/);
    expect(() => watchOf({ rules: ["none.yml"] }, folder)).toThrow(/none\.yml/);
  });

  test("names tools whose calls a person approves, and how long is waited for one", () => {
    const waits: number[] = [];
    const approvers = (timeoutMs: number) => {
      waits.push(timeoutMs);
      return { ...denyAll, timeoutMs };
    };
    const watch = watchOf(safetyOf({ responses: "on", ask: ["bash"] }), ".", approvers);
    expect(watch).toMatchObject({ askFor: ["bash"], approver: { timeoutMs: 600_000 } });
    expect(watchOf(safetyOf({ responses: "on", approveWithin: 30 }), ".", approvers)).toMatchObject({
      askFor: [],
      approver: { timeoutMs: 30_000 },
    });
    expect(waits).toEqual([600_000, 30_000]);
    for (const nobody of [{ responses: "on" }, { responses: "on", ask: ["bash"], approveWithin: 0 }])
      expect(watchOf(safetyOf(nobody), ".", approvers).approver).toBe(denyAll);
    expect(watchOf(safetyOf({ responses: "on", ask: ["bash"] }), ".").approver).toBe(denyAll);
    expect(waits).toHaveLength(2);
  });

  test.each([
    [{ ask: ["bash"] }, "ask", "needs `responses: on`: otherwise nothing is asked"],
    [
      { responses: "off", approveWithin: 5 },
      "approveWithin",
      "needs `responses: on`: otherwise nothing is asked",
    ],
    [{ responses: "on", ask: ["bahs"] }, "ask", "there is no tool bahs; did you mean bash?"],
  ])("cannot ask in vain: %j", (safety, key, message) => {
    const result = parseRecipe(recipe(safety));
    expect(!result.ok && result.error).toEqual([{ path: `stages.0.safety.${key}`, message }]);
  });

  test("is refused with what was probably meant", () => {
    const result = parseRecipe(recipe({ responces: "on" }));
    expect(!result.ok && result.error).toEqual([
      { path: "stages.0.safety.responces", message: 'unknown key; did you mean "responses"?' },
    ]);
  });
});
