import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { addCounters, fieldOf } from "../src/host/cgroup-stats.ts";
import { resolveImage } from "../src/image/image.ts";
import { OciDriver } from "../src/index.ts";
import { closeDriver, driver, freshHome, obstacle, sandbox, spec, suite, traces } from "./support.ts";

const MIB = 2 ** 20;

afterAll(closeDriver);

describe.skipIf(obstacle)(suite("what a sandbox uses"), () => {
  test("processor time, memory, processes, disk and output are counted", async () => {
    await using box = await sandbox({ limits: { diskBytes: 32 * MIB } });
    const before = await box.stats();
    await box.shell.run("i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done");
    await box.shell.run("head -c 9000000 /dev/urandom > big; mkdir many; touch many/{1..100}; sleep 60 &");
    await box.exec({ argv: ["head", "-c", "5000", "/dev/zero"] });
    const after = await box.stats();
    expect(after.cpuMs! - before.cpuMs!).toBeGreaterThan(20);
    expect(after.memoryPeakBytes).toBeGreaterThanOrEqual(after.memoryBytes!);
    expect(after.memoryBytes! - before.memoryBytes!).toBeGreaterThan(8 * MIB);
    expect(after.pids).toBeGreaterThanOrEqual(2);
    expect(after.diskBytes! - before.diskBytes!).toBeGreaterThan(8 * MIB);
    expect(after.diskInodes! - before.diskInodes!).toBeGreaterThanOrEqual(102);
    expect(after.outputBytes - before.outputBytes).toBeGreaterThanOrEqual(5000);
    expect(after.uptimeMs).toBeGreaterThan(before.uptimeMs);
  });

  test("what the limits held back is counted", async () => {
    await using box = await sandbox({
      limits: { memoryBytes: 48 * MIB, diskBytes: 4 * MIB, pids: 16, cpus: 0.2 },
    });
    const forks = "for (1..40) { my $pid = fork; if (defined $pid && !$pid) { sleep 30; exit } }";
    await box.exec({ argv: ["perl", "-e", forks] });
    await box.killAgentProcesses();
    await box.exec({ argv: ["perl", "-e", "$i++ while times < 0.1; my $x = 'x' x 200_000_000"] });
    const stats = await box.stats();
    expect(stats.pidsRefused).toBeGreaterThan(0);
    expect(stats.oomKills).toBeGreaterThan(0);
    expect(stats.throttledPeriods).toBeGreaterThan(0);
  });

  test("a sandbox that has ended has no more numbers", async () => {
    const box = await sandbox();
    await box.destroy();
    await expect(box.stats()).rejects.toMatchObject({ code: "sandbox-gone" });
  });

  test("counters go on where those of former groups ended", () => {
    const none = { throttledPeriods: null, pids: null, pidsRefused: 3, oomKills: 1 };
    const before = { cpuMs: 10, memoryBytes: 5, memoryPeakBytes: 50, ...none };
    const now = { cpuMs: 1, memoryBytes: 7, memoryPeakBytes: 9, ...none, pids: 2 };
    expect(addCounters(before, now)).toEqual({
      cpuMs: 11,
      memoryBytes: 7,
      memoryPeakBytes: 50,
      throttledPeriods: null,
      pids: 2,
      pidsRefused: 6,
      oomKills: 2,
    });
    expect(fieldOf("nr_throttled 12\nx", "nr_throttled")).toBe(12);
    expect(fieldOf("nr_throttled max\n", "nr_throttled")).toBeNull();
  });
});

describe.skipIf(obstacle)(suite("a sandbox's end"), () => {
  test("has a reason: destroyed", async () => {
    const box = await sandbox();
    expect(box.endReason).toBeUndefined();
    expect((await driver()).list()).toContain(box);
    await box.destroy();
    expect(await box.ended).toBe("destroyed");
    expect(box.endReason).toBe("destroyed");
    expect((await driver()).list()).not.toContain(box);
  });

  test("has a reason: its lifetime was over, also in the middle of a command", async () => {
    const box = await sandbox({ limits: { lifetimeMs: 300 } });
    await box.shell.run("sleep 60");
    expect(await box.ended).toBe("lifetime");
  });

  test("has a reason: nothing was asked of it; a command that runs is asked", async () => {
    const box = await sandbox({ idleMs: 150 });
    expect((await box.shell.run("sleep 0.6; echo here")).output).toBe("here\n");
    expect(await box.ended).toBe("idle");
  });

  test("has a reason: it crashed; then nothing is left either", async () => {
    using home = await freshHome();
    await using own = new OciDriver({ home: home.path });
    const box = await own.create(spec({ labels: { name: "crash" } }));
    const init = readdirSync("/proc").find((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(`/ale/${box.id}\n`);
      } catch {
        return false;
      }
    });
    process.kill(Number(init), "SIGKILL");
    expect(await box.ended).toBe("crashed");
    expect(own.list()).toEqual([]);
    expect(traces(`${home.path}/rock/x`, [box.id])).toEqual([]);
  });
});

describe.skipIf(obstacle)(suite("what a sandbox may ask for"), () => {
  test.each([
    ["memoryBytes", totalmem() + MIB, "of memory"],
    ["cpus", 255, "processors"],
    ["diskBytes", 2 ** 50, "of free disk"],
  ] as const)("more %s than the host has is refused with the host's number", async (limit, value, words) => {
    const refused = expect((await driver()).create(spec({ limits: { [limit]: value } }))).rejects;
    await refused.toMatchObject({ code: "limits-above-host", message: expect.stringContaining(words) });
  });

  test("an id of the caller's, once", async () => {
    using home = await freshHome();
    await using own = new OciDriver({ home: home.path });
    const id = `mine-${process.pid}`;
    const attempts = await Promise.allSettled([own.create(spec({ id })), own.create(spec({ id }))]);
    const made = attempts.filter((attempt) => attempt.status === "fulfilled");
    const failed = attempts.filter((attempt) => attempt.status === "rejected");
    expect(made.map((attempt) => attempt.value.id)).toEqual([id]);
    expect(failed.map((attempt) => attempt.reason.code)).toEqual(["id-taken"]);
    await expect((await driver()).create(spec({ id }))).rejects.toMatchObject({ code: "id-taken" });
    await made[0]!.value.destroy();
    await (await own.create(spec({ id }))).destroy();
  });

  test.each(["", "-a", "A", "a/b", "..", "a".repeat(64), "a\n"])("the id %j is refused", async (id) => {
    await expect((await driver()).create(spec({ id }))).rejects.toMatchObject({ code: "id-invalid" });
  });
});

describe.skipIf(obstacle)(suite("a sandbox's layer"), () => {
  test("is taken out whole, with what was removed, and makes the next image", async () => {
    using home = await freshHome();
    const own = new OciDriver({ home: home.path });
    const image = resolveImage(home.path, "ale/base");
    const box = await own.createFrom(image, spec({ workdir: "/work" }));
    const made =
      "rm /etc/motd; echo new > /etc/new; chown agent /etc/new; ln -s new /etc/link; rm -r /etc/apt; mkdir /etc/apt";
    expect((await box.exec({ argv: ["bash", "-c", made], user: "root" })).exitCode).toBe(0);
    const layer = join(home.path, "taken");
    await own.takeLayer(box.id, layer);
    expect(await box.ended).toBe("destroyed");
    expect(lstatSync(join(layer, "etc/motd")).isCharacterDevice()).toBe(true);
    expect(readFileSync(join(layer, "etc/new"), "utf8")).toBe("new\n");

    const next = await own.createFrom({ ...image, layers: [layer, ...image.layers] }, spec());
    const seen = "cat /etc/link; stat -c %U /etc/new; ls -A /etc/apt; ls /etc/motd";
    const { stdout, exitCode } = await next.exec({ argv: ["bash", "-c", seen], user: "root" });
    expect([stdout, exitCode]).toEqual(["new\nagent\n", 2]);
    await expect(own.takeLayer(next.id, layer)).rejects.toMatchObject({ code: "layer-exists" });
    await expect(own.takeLayer(box.id, join(home.path, "again"))).rejects.toMatchObject({
      code: "sandbox-gone",
    });
    await own[Symbol.asyncDispose]();
    expect(traces(home.path, [box.id, next.id]).filter((line) => !line.includes("taken"))).toEqual([]);
  });
});
