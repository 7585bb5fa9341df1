import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { processStart } from "@ale/core";
import { expect, onTestFinished, test } from "vitest";
import { leftoversOf, pruneRun } from "../src/run/prune.ts";
import { initialRunState, saveRunState } from "../src/run/run-state.ts";

/** A run as sittings leave it: two checkpoints that its state names, one of a sitting that was killed, a model and episodes. */
function run(): { directory: string; kept: string[]; lost: string; checkpoint: (name: string) => string } {
  const directory = mkdtempSync(join(tmpdir(), "ale-prune-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const checkpoint = (name: string): string => {
    const path = join(directory, "checkpoints", name);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "model.safetensors"), "x".repeat(1_000));
    return path;
  };
  const kept = [checkpoint("run-2/weights/v4"), checkpoint("run-2/weights/v5")];
  const lost = checkpoint("run-1/weights/v5");
  for (const name of ["model", "episodes"]) mkdirSync(join(directory, name));
  saveRunState(directory, {
    ...initialRunState("r", "hash", "/model"),
    version: 5,
    checkpoint: "tinker://run-2/weights/v5",
    kept,
  });
  return { directory, kept, lost, checkpoint };
}

test("finds what a killed sitting left, and removes nothing else", () => {
  const { directory, kept, lost } = run();
  expect(leftoversOf(directory)).toEqual([{ path: lost, bytes: 1_000 }]);
  expect(existsSync(lost)).toBe(true);
  expect(pruneRun(directory)).toEqual([{ path: lost, bytes: 1_000 }]);
  expect(existsSync(lost)).toBe(false);
  for (const path of [...kept, join(directory, "model"), join(directory, "episodes")])
    expect(existsSync(path)).toBe(true);
  expect(pruneRun(directory)).toEqual([]);
});

test("keeps what the state's checkpoint names, also where it is not among those counted", () => {
  const { directory, kept, lost } = run();
  saveRunState(directory, {
    ...initialRunState("r", "hash", "/model"),
    checkpoint: "tinker://run-1/weights/v5",
  });
  expect(leftoversOf(directory).map(({ path }) => path)).toEqual(kept);
  expect(existsSync(lost)).toBe(true);
});

test("leaves a run alone that another process works on, and a directory that is no run", () => {
  const { directory } = run();
  writeFileSync(join(directory, "lock.json"), JSON.stringify({ pid: 1, start: processStart(1) }));
  expect(() => pruneRun(directory)).toThrow(expect.objectContaining({ code: "run-busy" }));
  rmSync(join(directory, "lock.json"));
  rmSync(join(directory, "state.json"));
  expect(pruneRun(directory)).toEqual([]);
});
