import { afterAll, describe, expect, test } from "vitest";
import { findRuntime, logsDenied, RUNTIMES } from "../src/host/runtime.ts";
import { OciDriver } from "../src/index.ts";
import { file, obstacle, spec, suite } from "./support.ts";

describe("container runtimes", () => {
  test("are known by what they can do", () => {
    const runc = (version: string) => logsDenied({ name: "runc", path: "/x", version });
    expect([runc("1.1.5+ds1"), runc("1.2.0"), runc("1.3.1-rc.1"), runc("2.0.0")]).toEqual([
      false,
      true,
      true,
      true,
    ]);
    expect(logsDenied({ name: "crun", path: "/x", version: "1.8.1" })).toBe(true);
  });
});

for (const runtime of RUNTIMES) {
  const missing =
    obstacle ?? (findRuntime(runtime) === undefined ? `${runtime} is not installed` : undefined);
  describe.skipIf(missing)(suite(`a sandbox run by ${runtime}`), () => {
    const driver = new OciDriver({ runtime });
    afterAll(() => driver[Symbol.asyncDispose]());

    test("runs programs and shells, and sees its files", async () => {
      expect((await driver.capabilities()).runtime).toContain(`${runtime} `);
      await using box = await driver.create(spec({ files: [file("/work/given", "from outside\n")] }));
      expect((await box.shell.run("id -un; cat given; echo inside > made")).output).toBe(
        "agent\nfrom outside\n",
      );
      const made = await box.readFile("/work/made");
      expect(made.ok && Buffer.from(made.value).toString()).toBe("inside\n");
      expect(await box.exec({ argv: ["sh", "-c", "id -u; exit 3"], user: "root" })).toMatchObject({
        stdout: "0\n",
        exitCode: 3,
      });
    });

    test("keeps its walls: users of its own, no privileges, a filter, masked files", async () => {
      await using box = await driver.create(spec());
      const script =
        "grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status; cat /proc/self/uid_map; echo x > /proc/sys/kernel/core_pattern; head -c 1 /proc/kcore; perl -e 'my @a = (q(none), q(/mnt), q(tmpfs)); print syscall(165, @a, 0, 0)'";
      const { stdout } = await box.exec({ argv: ["bash", "-c", script], user: "root" });
      expect(stdout).toContain("CapEff:\t00000000000001fb\nNoNewPrivs:\t1\nSeccomp:\t2\n");
      if (process.arch === "x64") expect(stdout).toMatch(/\n\s+0\s+[12]\d{9}\s+65536\n-1$/);
    });

    test("holds its limits, and leaves nothing", async () => {
      const limits = { pids: 12, memoryBytes: 64 * 2 ** 20, diskBytes: 8 * 2 ** 20 };
      const box = await driver.create(spec({ limits }));
      expect((await box.shell.run("perl -e '$x = q(x) x (1 << 30)'")).exitCode).toBe(137);
      expect((await box.shell.run("head -c 20000000 /dev/zero > big")).output).toContain("No space left");
      await box.exec({ argv: ["perl", "-e", "fork or sleep 9 for 1 .. 20"], timeoutMs: 500 });
      const { oomKills, pidsRefused } = await box.stats();
      expect(oomKills).toBeGreaterThan(0);
      expect(pidsRefused).toBeGreaterThan(0);
      await box.destroy();
      expect(driver.list()).toEqual([]);
    });
  });
}
