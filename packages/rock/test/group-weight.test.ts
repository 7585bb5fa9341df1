import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { cgroupMounts } from "../src/host/cgroup.ts";
import { weighSandboxes } from "../src/host/group-weight.ts";
import { closeDriver, driver, obstacle, suite } from "./support.ts";

describe("what all sandboxes together weigh", () => {
  test.each([
    ["v1", "cgroup", ["rw", "cpu", "cpuacct"], "3:cpu,cpuacct:/\n", "cpu.shares", "1024", "4096"],
    [
      "v1, where the host's processes have groups",
      "cgroup",
      ["cpu"],
      "3:cpu:/user.slice\n",
      "cpu.shares",
      "1024",
      "1024",
    ],
    ["v1, where somebody has set it", "cgroup", ["cpu"], "3:cpu:/\n", "cpu.shares", "512", "512"],
    ["v2", "cgroup2", [], "0::/\n", "cpu.weight", "100", "400"],
    ["v2, in a slice", "cgroup2", [], "0::/system.slice\n", "cpu.weight", "100", "100"],
  ])("is a process for each processor on %s", (_, type, options, own, name, before, after) => {
    const target = mkdtempSync(join(tmpdir(), "ale-weight-"));
    try {
      mkdirSync(join(target, "ale"));
      const file = join(target, "ale", name);
      writeFileSync(file, `${before}\n`);
      weighSandboxes({ mounts: [{ target, type, options }], own, processors: 4 });
      expect(readFileSync(file, "utf8").trim()).toBe(after);
    } finally {
      rmSync(target, { recursive: true });
    }
  });
});

afterAll(closeDriver);
const v1 = cgroupMounts().find(({ type, options }) => type === "cgroup" && options.includes("cpu"));
const beside = /^\d+:[^:]*\bcpu\b[^:]*:\/$/m.test(readFileSync("/proc/self/cgroup", "utf8"));

describe.skipIf(obstacle !== undefined || v1 === undefined || !beside)(suite("a driver"), () => {
  test("sees to it when it opens", async () => {
    const file = join(v1!.target, "ale", "cpu.shares");
    writeFileSync(file, "1024");
    await (await driver()).capabilities();
    expect(Number(readFileSync(file, "utf8"))).toBe(Math.min(1024 * cpus().length, 262_144));
  });
});
