import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { probeCgroups, processesOf } from "../src/host/cgroup.ts";
import { mount, unmount } from "../src/host/native.ts";
import { OciDriver } from "../src/index.ts";
import { file, freshHome, obstacle, spec, suite, traces, until } from "./support.ts";

interface OwnerProcess extends Disposable {
  readonly child: ChildProcess;
  readonly ids: readonly string[];
  /** Resolves when the process is gone: until then it may still count as the owner. */
  readonly ended: Promise<void>;
}

/** A process that owns two sandboxes, one of them on a disk of its own, with daemons in them. */
async function ownerProcess(home: string, then: "stay" | "exit" = "stay"): Promise<OwnerProcess> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "owner-process.ts"), home, then], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const ids = await new Promise<string[]>((resolve, reject) => {
    child.stdout!.on("data", (chunk: Buffer) => resolve(JSON.parse(chunk.toString())));
    child.once("exit", () =>
      setTimeout(reject, 500, new Error("the owner ended before it told its sandboxes")),
    );
  });
  return { child, ids, ended, [Symbol.dispose]: () => child.kill("SIGKILL") };
}

const alive = (ids: readonly string[]): number =>
  ids.reduce((count, id) => count + processesOf(probeCgroups(), id).length, 0);

describe.skipIf(obstacle)(suite("a sandbox's life"), () => {
  test("destroying it removes every trace, and twice is as good as once", async () => {
    using home = await freshHome();
    await using driver = new OciDriver({ home: home.path });
    const boxes = await Promise.all([
      driver.create(spec()),
      driver.create(spec({ limits: { diskBytes: 256 * 2 ** 20 } })),
    ]);
    const ids = boxes.map((box) => box.id);
    await Promise.all(
      boxes.map((box) => box.shell.run("setsid sh -c \"trap '' TERM; sleep 600\" & sleep 600 &")),
    );
    expect(alive(ids)).toBeGreaterThanOrEqual(6);
    await Promise.all(boxes.flatMap((box) => [box.destroy(), box.destroy()]));
    await boxes[0]?.destroy();
    expect(traces(`${home.path}/rock/x`, ids)).toEqual([]);
    expect(alive(ids)).toBe(0);
  });

  test("a storm of sandboxes leaves nothing behind", async () => {
    using home = await freshHome();
    const ids: string[] = [];
    {
      await using driver = new OciDriver({ home: home.path, concurrency: 8 });
      const one = async (n: number): Promise<void> => {
        const box = await driver.create(spec({ files: [file("/work/n", String(n))] }));
        ids.push(box.id);
        expect((await box.shell.run("cat n; sleep 60 &")).output).toContain(String(n));
        const { stdout } = await box.exec({ argv: ["cat", "/work/n"], user: "root" });
        expect(stdout).toBe(String(n));
        // Every third one is left to the driver's own end.
        if (n % 3 !== 0) await box.destroy();
      };
      await Promise.all(Array.from({ length: 60 }, (_, n) => one(n)));
      expect(new Set(ids).size).toBe(60);
    }
    expect(traces(home.path, ids)).toEqual([]);
  }, 120_000);

  test("creation that is aborted, before or during, leaves nothing behind", async () => {
    using home = await freshHome();
    {
      await using driver = new OciDriver({ home: home.path, concurrency: 1 });
      const aborts = Array.from({ length: 6 }, () => new AbortController());
      const attempts = Promise.allSettled(aborts.map(({ signal }) => driver.create(spec(), signal)));
      setTimeout(() => {
        for (const abort of aborts) abort.abort(new Error("changed my mind"));
      }, 30);
      const rejected = (await attempts).filter((attempt) => attempt.status === "rejected");
      expect(rejected.length).toBeGreaterThan(0);
      for (const { reason } of rejected) expect(reason.message).toBe("changed my mind");
      await expect(driver.create(spec(), AbortSignal.abort(new Error("never")))).rejects.toThrow("never");
    }
    expect(traces(home.path, [])).toEqual([]);
  });

  test("creation that fails half-way leaves nothing behind", async () => {
    using home = await freshHome();
    {
      await using driver = new OciDriver({ home: home.path });
      await expect(driver.create(spec({ image: "no/such" }))).rejects.toMatchObject({
        code: "image-unknown",
      });
      await expect(driver.create(spec({ files: [file("/etc/passwd/x", "")] }))).rejects.toMatchObject({
        code: "spec-invalid",
      });
      await expect(
        driver.create(
          spec({ files: [file("/work/x", "x".repeat(2 ** 20))], limits: { diskBytes: 2 ** 16 } }),
        ),
      ).rejects.toMatchObject({ code: "sandbox-disk-full" });
    }
    expect(traces(home.path, [])).toEqual([]);
  });

  test("a disk larger than memory is refused where it would itself lie in memory", async () => {
    using home = await freshHome();
    mkdirSync(join(home.path, "rock"));
    mount({ type: "tmpfs", source: "ale", target: join(home.path, "rock"), flags: 0, data: "size=16m" });
    try {
      await using driver = new OciDriver({ home: home.path });
      await expect(driver.create(spec({ limits: { diskBytes: 2 ** 28 } }))).rejects.toMatchObject({
        code: "disk-in-memory",
      });
      expect((await (await driver.create(spec())).shell.run("echo small")).output).toBe("small\n");
    } finally {
      unmount(join(home.path, "rock"));
    }
  });

  test("a closed driver makes no more sandboxes", async () => {
    using home = await freshHome();
    const driver = new OciDriver({ home: home.path });
    const box = await driver.create(spec());
    const late = driver.create(spec());
    const refused = expect(late).rejects.toMatchObject({ code: "driver-closed" });
    await driver[Symbol.asyncDispose]();
    await refused;
    await expect(driver.create(spec())).rejects.toMatchObject({ code: "driver-closed" });
    expect((await box.shell.run("true")).exitCode).toBeNull();
    expect(traces(home.path, [box.id])).toEqual([]);
  });

  test("limits of months do not turn into limits of nothing", async () => {
    using home = await freshHome();
    await using driver = new OciDriver({ home: home.path });
    const months = 1e10;
    const box = await driver.create(spec({ limits: { lifetimeMs: months, execTimeoutMs: months } }));
    expect((await box.shell.run("sleep 0.2; echo here")).output).toBe("here\n");
    expect((await box.exec({ argv: ["echo", "there"], user: "root" })).stdout).toBe("there\n");
  });

  test("more wishes than room are served in turn", async () => {
    using home = await freshHome();
    await using driver = new OciDriver({ home: home.path, concurrency: 2 });
    const boxes = await Promise.all(Array.from({ length: 6 }, () => driver.create(spec())));
    const outputs = await Promise.all(boxes.map((box) => box.shell.run("echo here")));
    expect(outputs.map((result) => result.output)).toEqual(Array.from({ length: 6 }, () => "here\n"));
  });
});

describe.skipIf(obstacle)(suite("after a crash"), () => {
  test("no process outlives an owner that was killed, and the next one removes the rest", async () => {
    using home = await freshHome();
    using owner = await ownerProcess(home.path);
    expect(alive(owner.ids)).toBeGreaterThanOrEqual(6);
    owner.child.kill("SIGKILL");
    await owner.ended;
    await until("every process of the sandboxes is gone", () => alive(owner.ids) === 0);
    expect(traces(home.path, owner.ids).length).toBeGreaterThan(0);
    {
      await using driver = new OciDriver({ home: home.path });
      const report = await driver.reap();
      expect([...report.reaped].sort()).toEqual([...owner.ids].sort());
      expect(report.failures).toEqual([]);
    }
    expect(traces(home.path, owner.ids)).toEqual([]);
  });

  test("an owner that ends without goodbye leaves no process either", async () => {
    using home = await freshHome();
    using owner = await ownerProcess(home.path, "exit");
    await owner.ended;
    await until("every process of the sandboxes is gone", () => alive(owner.ids) === 0);
    {
      // No call of reap: whoever makes the next sandbox has cleared up before.
      await using driver = new OciDriver({ home: home.path });
      await driver.create(spec());
    }
    expect(traces(home.path, owner.ids)).toEqual([]);
  });

  test("sandboxes of a living owner are left alone", async () => {
    using home = await freshHome();
    using owner = await ownerProcess(home.path);
    {
      await using driver = new OciDriver({ home: home.path });
      const report = await driver.reap();
      expect(report.reaped).toEqual([]);
      expect([...report.alive].sort()).toEqual([...owner.ids].sort());
      await driver.create(spec());
    }
    expect(alive(owner.ids)).toBeGreaterThanOrEqual(6);
    owner.child.kill("SIGKILL");
    await owner.ended;
    await until("every process of the sandboxes is gone", () => alive(owner.ids) === 0);
    await using driver = new OciDriver({ home: home.path });
    expect((await driver.reap()).failures).toEqual([]);
  });

  test("what was left before a reboot, or half-written, is removed", async () => {
    using home = await freshHome();
    const space = join(home.path, "rock", `${"0".repeat(32)}-1-1-abcdef`);
    mkdirSync(join(space, "sb-torn"), { recursive: true });
    mkdirSync(join(space, "sb-empty"));
    writeFileSync(join(space, "sb-torn", "state.json"), '{"id":');
    {
      await using driver = new OciDriver({ home: home.path });
      expect([...(await driver.reap()).reaped].sort()).toEqual(["sb-empty", "sb-torn"]);
    }
    expect(traces(home.path, [])).toEqual([]);
  });
});
