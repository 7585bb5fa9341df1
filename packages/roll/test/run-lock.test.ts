import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isRunLocked, lockRun } from "../src/index.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ale-lock-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const lockFile = (): string => join(directory, "lock.json");
const program = (wait: boolean): string[] => [
  "--input-type=module",
  "--eval",
  `import { lockRun } from ${JSON.stringify(join(import.meta.dirname, "../src/run/run-lock.ts"))};
   lockRun(${JSON.stringify(directory)}); console.log("locked"); ${wait ? "setInterval(() => {}, 1000);" : "process.kill(process.pid, 'SIGKILL');"}`,
];

describe("the lock of a run", () => {
  test("is held by one living process, and free again when it is gone", async () => {
    const other = spawn(process.execPath, program(true), { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((done) => other.stdout.once("data", done));
    expect(isRunLocked(directory)).toBe(true);
    expect(() => lockRun(directory)).toThrow(
      expect.objectContaining({ code: "run-busy", message: expect.stringContaining(String(other.pid)) }),
    );
    const gone = new Promise((done) => other.once("close", done));
    other.kill("SIGKILL");
    await gone;
    expect(isRunLocked(directory)).toBe(false);
    lockRun(directory)[Symbol.dispose]();
    expect(existsSync(lockFile())).toBe(false);
  });

  test("of a process that was killed without warning is taken over", () => {
    expect(spawnSync(process.execPath, program(false)).stdout.toString()).toContain("locked");
    expect(existsSync(lockFile())).toBe(true);
    using _ = lockRun(directory);
    expect(isRunLocked(directory)).toBe(false);
  });

  test("may be taken again by its owner, and the outermost one counts", () => {
    const outer = lockRun(directory);
    lockRun(directory)[Symbol.dispose]();
    expect(existsSync(lockFile())).toBe(true);
    outer[Symbol.dispose]();
    expect(existsSync(lockFile())).toBe(false);
  });

  test("that is no lock at all does not stand in the way", () => {
    writeFileSync(lockFile(), "{");
    lockRun(directory)[Symbol.dispose]();
  });

  test("of a pid that another process has by now is not respected", () => {
    writeFileSync(lockFile(), JSON.stringify({ pid: 1, start: "-1" }));
    expect(isRunLocked(directory)).toBe(false);
    lockRun(directory)[Symbol.dispose]();
  });
});
