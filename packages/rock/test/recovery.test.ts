import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { probeCgroups, processesOf } from "../src/host/cgroup.ts";
import { mountsUnder } from "../src/host/mounts.ts";
import { MS_BIND, MS_RDONLY, MS_REMOUNT, mount, unmount } from "../src/host/native.ts";
import { inspectHost, isDurable, openOciDriver } from "../src/index.ts";
import { freshHome, obstacle, spec, suite, traces, until } from "./support.ts";

interface Owned {
  readonly mem: string;
  readonly disk: string;
  readonly fork: string;
  readonly snapshot: string;
}

interface OwnerProcess extends Disposable {
  readonly child: ChildProcess;
  readonly owned: Owned;
  kill(): Promise<void>;
}

let runs = 0;

async function ownerProcess(home: string, then: "stay" | "snapshots" = "stay"): Promise<OwnerProcess> {
  const unique = `${process.pid}-${runs++}`;
  const argv = [join(import.meta.dirname, "durable-process.ts"), home, then, unique];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const owned = await new Promise<Owned>((resolve, reject) => {
    child.stdout!.once("data", (chunk: Buffer) => resolve(JSON.parse(chunk.toString())));
    child.once("exit", () => reject(new Error("the owner ended before it was ready")));
  });
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  return { child, owned, kill, [Symbol.dispose]: () => child.kill("SIGKILL") };
}

const open = (home: string) => openOciDriver({ home, durable: "server" });

const alive = (ids: readonly string[]): number =>
  ids.reduce((count, id) => count + processesOf(probeCgroups(), id).length, 0);

/** Ends all sandboxes and files of a durable space, so that its home can be removed. */
async function clear(home: string): Promise<void> {
  await using driver = open(home);
  for (const { id } of await driver.stopped()) await driver.remove(id);
  for (const { id } of await driver.snapshots.list()) await driver.snapshots.remove(id);
}

describe.skipIf(obstacle)(suite("a durable driver"), () => {
  test("leaves alone what another one runs under the name of one that it keeps stopped", async () => {
    using home = await freshHome();
    using other = await freshHome();
    const id = `twin-${process.pid}`;
    {
      await using driver = open(home.path);
      await driver.create(spec({ id }));
    }
    await using running = open(other.path);
    const box = await running.create(spec({ id }));
    {
      await using driver = open(home.path);
      expect((await driver.stopped()).map((one) => one.id)).toEqual([id]);
      await expect(driver.resume(id)).rejects.toMatchObject({ code: "id-taken" });
    }
    expect(inspectHost(home.path).orphans).toEqual([]);
    expect((await box.shell.run("echo alive")).output).toBe("alive\n");
    await box.destroy();
    await clear(home.path);
  });

  test("keeps what it stops, and starts it again as it was", async () => {
    using home = await freshHome();
    {
      await using driver = open(home.path);
      expect(isDurable(driver)).toBe(true);
      const box = await driver.create(spec({ labels: { a: "b" }, env: { E: "e" } }));
      await box.shell.run("echo here > a; mkdir d; cd d; export X=y; sleep 600 &");
      await driver.stop(box.id);
      expect(await box.ended).toBe("stopped");
      expect(alive([box.id])).toBe(0);
      expect((await box.exec({ argv: ["true"] })).exitCode).toBeNull();
      await driver.stop(box.id);
      expect(await driver.stopped()).toMatchObject([{ id: box.id, spec: { labels: { a: "b" } } }]);
      const again = await driver.resume(box.id);
      expect(again.id).toBe(box.id);
      expect((await again.shell.run('pwd; cat ../a; echo "$X $E"')).output).toBe("/work/d\nhere\ny e\n");
      expect(driver.list()).toEqual([again]);
      await expect(driver.resume(box.id)).rejects.toMatchObject({ code: "sandbox-running" });
      await expect(driver.remove(box.id)).rejects.toMatchObject({ code: "sandbox-running" });
      await expect(driver.resume("none")).rejects.toMatchObject({ code: "sandbox-unknown" });
      await expect(driver.create(spec({ id: box.id }))).rejects.toMatchObject({ code: "id-taken" });
      // The driver's own end stops it.
    }
    await using driver = open(home.path);
    const [stopped] = await driver.stopped();
    await expect(driver.create(spec({ id: stopped!.id }))).rejects.toMatchObject({ code: "id-taken" });
    const box = await driver.resume(stopped!.id);
    expect((await box.exec({ argv: ["cat", "/work/a"] })).stdout).toBe("here\n");
    await box.destroy();
    expect(await driver.stopped()).toEqual([]);
    await driver.remove(stopped!.id);
    expect(traces(`${home.path}/rock/durable-server/x`, [box.id])).toEqual([]);
  });

  test("keeps what ends by itself", async () => {
    using home = await freshHome();
    await using driver = open(home.path);
    const box = await driver.create(spec({ limits: { lifetimeMs: 400 } }));
    await box.exec({ argv: ["touch", "/work/there"] });
    expect(await box.ended).toBe("lifetime");
    expect((await driver.stopped()).map((one) => one.id)).toEqual([box.id]);
    await driver.remove(box.id);
    expect(await driver.stopped()).toEqual([]);
    expect(readdirSync(join(home.path, "rock/durable-server/.layers"))).toEqual([]);
  });

  test("leaves nothing mounted when it keeps nothing, and everything of what it keeps", async () => {
    using home = await freshHome();
    const mounted = (): number => mountsUnder(join(home.path, "rock/durable-server")).length;
    {
      await using driver = open(home.path);
      await (await driver.create(spec())).destroy();
      await driver.create(spec());
    }
    expect(mounted()).toBeGreaterThan(1);
    await clear(home.path);
    expect(mounted()).toBe(0);
  });

  test("has one owner at a time, whose number the others are told", async () => {
    using home = await freshHome();
    await using first = open(home.path);
    await first.capabilities();
    await using second = open(home.path);
    await expect(second.create(spec())).rejects.toMatchObject({
      code: "space-in-use",
      message: expect.stringContaining(String(process.pid)),
    });
    await using other = openOciDriver({ home: home.path, durable: "other" });
    const box = await other.create(spec());
    expect(first.list()).toEqual([]);
    await box.destroy();
    await expect(openOciDriver({ home: home.path, durable: "../x" }).capabilities()).rejects.toMatchObject({
      code: "space-invalid",
    });
  });
});

describe.skipIf(obstacle)(suite("after the crash of a durable driver"), () => {
  test("no process is left, files are, and everything can be had again", async () => {
    using home = await freshHome();
    using owner = await ownerProcess(home.path);
    const { mem, disk, fork, snapshot } = owner.owned;
    await owner.kill();
    const ids = [mem, disk, fork];
    await until("every process is gone", () => alive(ids) === 0);
    expect(inspectHost(home.path).orphans.filter((one) => one.type === "process")).toEqual([]);
    {
      await using driver = open(home.path);
      expect(await driver.lost()).toEqual({ sandboxes: [], snapshots: [] });
      // The pool's was nobody's.
      expect((await driver.stopped()).map((one) => one.id).sort()).toEqual([...ids].sort());
      expect(inspectHost(home.path).orphans).toEqual([]);
      const boxes = await Promise.all(ids.map((id) => driver.resume(id)));
      expect(boxes[0]!.spec).toMatchObject({ labels: { kind: "mem" }, env: { A: "b" } });
      const seen = await Promise.all(boxes.map((box) => box.exec({ argv: ["ls", "/work"] })));
      expect(seen.map((one) => one.stdout)).toEqual(["kept\nlater\n", "kept\n", "kept\n"]);
      expect(await driver.snapshots.list()).toMatchObject([{ id: snapshot, labels: { step: "1" } }]);
      const [another] = await driver.snapshots.fork(snapshot, 1);
      expect((await another!.exec({ argv: ["ls", "/work"] })).stdout).toBe("kept\n");
      expect((await driver.snapshots.diff(null, snapshot)).map((one) => one.path)).toContain("/work/kept");
      await Promise.all([...boxes, another!].map((box) => box.destroy()));
      await driver.snapshots.remove(snapshot);
    }
    expect(traces(home.path, ids).filter((line) => !line.includes("durable-server"))).toEqual([]);
    expect(inspectHost(home.path).orphans).toEqual([]);
  });

  test("between the sealing of a layer and the snapshot that it was for", async () => {
    using home = await freshHome();
    await using driver = open(home.path);
    const box = await driver.create(spec());
    await box.shell.run("echo kept > kept");
    await driver.stop(box.id);
    const layers = join(home.path, "rock/durable-server/.layers");
    const [layer] = readdirSync(layers);
    const flags = MS_REMOUNT | MS_BIND | MS_RDONLY;
    mount({ type: null, source: null, target: join(layers, layer!), flags });
    const again = await driver.resume(box.id);
    expect((await again.exec({ argv: ["sh", "-c", "cat kept; echo more > more; cat more"] })).stdout).toBe(
      "kept\nmore\n",
    );
    await again.destroy();
  });

  // Three owners, each with two sandboxes and whatever snapshots it came to, all of which are begun again: half a minute where many others work.
  test("in the middle of snapshots, too", { timeout: 180_000 }, async () => {
    using home = await freshHome();
    for (const patienceMs of [40, 90, 150]) {
      using owner = await ownerProcess(home.path, "snapshots");
      await new Promise((resolve) => setTimeout(resolve, patienceMs));
      await owner.kill();
      await using driver = open(home.path);
      expect(await driver.lost()).toEqual({ sandboxes: [], snapshots: [] });
      const { mem, disk } = owner.owned;
      for (const id of [mem, disk]) {
        const box = await driver.resume(id);
        expect((await box.exec({ argv: ["cat", "/work/kept"] })).stdout).toBe("kept\n");
        await box.exec({ argv: ["sh", "-c", "echo changed > /work/kept"] });
        await box.destroy();
      }
      for (const { id } of await driver.snapshots.list()) {
        const [fork] = await driver.snapshots.fork(id, 1);
        expect((await fork!.exec({ argv: ["cat", "/work/kept"] })).stdout).toBe("kept\n");
        await fork!.destroy();
        await driver.snapshots.remove(id);
      }
    }
    await clear(home.path);
    expect(readdirSync(join(home.path, "rock/durable-server/.layers"))).toEqual([]);
  });

  test("and a reboot, what lay on disk is there, and what lay in memory is told as lost", async () => {
    using home = await freshHome();
    using owner = await ownerProcess(home.path);
    const { mem, disk, fork, snapshot } = owner.owned;
    await owner.kill();
    await until("every process is gone", () => alive([mem, disk, fork]) === 0);
    // What a reboot does to them: mounts and loop devices are gone, files are not.
    const mounts = traces(home.path, []).filter((line) => line.startsWith("mount "));
    for (const target of mounts.map((line) => line.split(" ")[5]!).reverse()) while (unmount(target));
    await using driver = open(home.path);
    const lost = await driver.lost();
    expect([...lost.sandboxes].sort()).toEqual([fork, mem].sort());
    expect(lost.snapshots).toEqual([snapshot]);
    expect((await driver.stopped()).map((one) => one.id)).toEqual([disk]);
    const box = await driver.resume(disk);
    expect((await box.exec({ argv: ["cat", "/work/kept"] })).stdout).toBe("kept\n");
    await box.destroy();
  });

  test("a library driver on the same home leaves it alone, and the other way round", async () => {
    using home = await freshHome();
    await using durable = open(home.path);
    const kept = await durable.create(spec());
    {
      await using library = openOciDriver({ home: home.path });
      const box = await library.create(spec());
      await durable.stop(kept.id);
      expect((await library.reap()).reaped).toEqual([]);
      expect((await box.exec({ argv: ["echo", "here"] })).stdout).toBe("here\n");
    }
    expect((await durable.resume(kept.id)).id).toBe(kept.id);
    await (await durable.list()[0])!.destroy();
  });
});

describe.skipIf(obstacle)(suite("a full disk"), () => {
  test("refuses sandboxes and snapshots with a reason, and nothing is left of them", async () => {
    using home = await freshHome();
    const rock = join(home.path, "rock");
    mkdirSync(rock);
    mount({ type: "tmpfs", source: "ale", target: rock, flags: 0, data: "size=4m" });
    try {
      const driver = openOciDriver({ home: home.path });
      const box = await driver.create(spec());
      await box.shell.run("echo here > a; sleep 600 &");
      const before = traces(`${rock}/x`, []).length + readdirSync(rock).length;
      const fd = openSync(join(rock, "fill"), "w");
      expect(() => {
        for (;;) writeSync(fd, Buffer.alloc(4096));
      }).toThrow("ENOSPC");
      closeSync(fd);
      await expect(driver.create(spec())).rejects.toMatchObject({ code: "disk-full" });
      await expect(box.snapshot()).rejects.toMatchObject({ code: "disk-full" });
      expect((await box.shell.run("cat a; jobs | wc -l")).output).toBe("here\n1\n");
      expect(driver.list()).toEqual([box]);
      expect(await driver.snapshots.list()).toEqual([]);
      unlinkSync(join(rock, "fill"));
      expect(traces(`${rock}/x`, []).length + readdirSync(rock).length).toBe(before);
      const { snapshot } = await box.snapshot();
      const [fork] = await driver.snapshots.fork(snapshot.id, 1);
      expect((await fork!.exec({ argv: ["cat", "/work/a"] })).stdout).toBe("here\n");
      await driver[Symbol.asyncDispose]();
      expect(readdirSync(rock)).toEqual([]);
    } finally {
      unmount(rock);
    }
  });
});
