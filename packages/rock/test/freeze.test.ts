import { afterAll, describe, expect, test } from "vitest";
import { isRootless } from "../src/host/rootless.ts";
import { closeDriver, driver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

/** How far the loop below has come. */
const COUNT = "/work/count";
const LOOP = `i=0; while :; do i=$((i+1)); echo $i > ${COUNT}.new; mv ${COUNT}.new ${COUNT}; sleep 0.01; done`;

describe.skipIf(obstacle !== undefined || isRootless())(suite("a frozen sandbox"), () => {
  const counted = async (box: Awaited<ReturnType<typeof sandbox>>): Promise<number> => {
    const read = await box.readFile(COUNT);
    return read.ok ? Number(Buffer.from(read.value).toString()) : 0;
  };
  const running = async () => {
    const box = await sandbox();
    await box.start({ argv: ["sh", "-c", LOOP] });
    while ((await counted(box)) === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    return box;
  };

  test("stands still and goes on where it was", async () => {
    await using box = await running();
    await box.freeze();
    const before = await counted(box);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await counted(box)).toBe(before);
    await box.thaw();
    while ((await counted(box)) <= before) await new Promise((resolve) => setTimeout(resolve, 10));
  });

  test("refuses what would need a process of it, and still gives files and figures", async () => {
    await using box = await running();
    await box.shell.run("true");
    await box.freeze();
    const refused = { code: "sandbox-frozen" };
    await expect(box.exec({ argv: ["true"] })).rejects.toMatchObject(refused);
    await expect(box.start({ argv: ["true"] })).rejects.toMatchObject(refused);
    await expect(box.shell.run("true")).rejects.toMatchObject(refused);
    await expect(box.openSession()).rejects.toMatchObject(refused);
    await expect(box.connect(80)).rejects.toMatchObject(refused);
    await expect(box.killAgentProcesses()).rejects.toMatchObject(refused);
    await expect(box.snapshot()).rejects.toMatchObject(refused);
    expect((await box.stats()).pids).toBeGreaterThan(0);
    expect((await box.fingerprint([COUNT]))[0]).toMatchObject({ exists: true });
    await box.freeze();
    await box.thaw();
    await box.thaw();
    expect((await box.exec({ argv: ["true"] })).exitCode).toBe(0);
  });

  test("is not given up because a command that was running when it froze is overdue", async () => {
    await using box = await sandbox();
    const running = box.exec({ argv: ["sh", "-c", "sleep 0.3; echo done"], timeoutMs: 1_500 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await box.freeze();
    await new Promise((resolve) => setTimeout(resolve, 8_500));
    expect(box.endReason).toBeUndefined();
    await box.thaw();
    expect(["done\n", ""]).toContain((await running).stdout);
    expect((await box.exec({ argv: ["true"] })).exitCode).toBe(0);
  }, 60_000);

  test("can be kept as a snapshot, and stays frozen", async () => {
    await using box = await running();
    await box.freeze();
    const before = await counted(box);
    const { snapshot, processes } = await box.snapshot({ processes: "keep" });
    expect(processes).toBe("kept");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await counted(box)).toBe(before);
    const { snapshots } = await driver();
    const [fork] = await snapshots.fork(snapshot.id, 1);
    expect(await counted(fork!)).toBe(before);
    expect((await fork!.exec({ argv: ["true"] })).exitCode).toBe(0);
    await fork!.destroy();
    await snapshots.remove(snapshot.id);
  });

  test("is destroyed like any other", async () => {
    const box = await running();
    await box.freeze();
    await box.destroy();
    expect(box.endReason).toBe("destroyed");
  });
});
