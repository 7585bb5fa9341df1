import { spawn } from "node:child_process";
import { join } from "node:path";
import { NetworkPolicy } from "@ale/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { Engine } from "../src/docker/engine.ts";
import { LABEL, ownerLabel } from "../src/docker/labels.ts";
import { type DockerDriver, openDockerDriver, type Sandbox } from "../src/index.ts";
import { engineObstacle, engineSuite, startEngine, type TestEngine } from "./engine.ts";
import { file, spec } from "./support.ts";

let engine: TestEngine;
let driver: DockerDriver;
let client: Engine;

beforeAll(async () => {
  if (engineObstacle) return;
  engine = await startEngine();
  driver = openDockerDriver({ socket: engine.socket, unenforced: ["disk"] });
  client = await Engine.open(engine.socket);
}, 60_000);
afterAll(async () => {
  await driver?.[Symbol.asyncDispose]();
  client?.close();
  await engine?.[Symbol.asyncDispose]();
});

const sandbox = (...more: Parameters<typeof spec>): Promise<Sandbox> => driver.create(spec(...more));
const output = async (box: Sandbox, command: string): Promise<string> =>
  (await box.shell.run(command)).output;

const Containers = z.array(z.object({ Names: z.array(z.string()) }));
const containers = async (): Promise<string[]> => {
  const found = await client.json("GET", "/containers/json", Containers, { query: { all: true } });
  return found.flatMap((container) => container.Names);
};

describe.skipIf(engineObstacle)(engineSuite("a sandbox at an engine"), () => {
  test("an engine that cannot bound a disk is refused, unless that is spelled out", async () => {
    await using strict = openDockerDriver({ socket: engine.socket });
    await expect(strict.create(spec())).rejects.toMatchObject({
      code: "engine-unenforced",
      next: expect.stringContaining('unenforced: ["disk"]'),
    });
    const { enforces, quota, weaker, checkpoint } = await driver.capabilities();
    expect({ enforces, quota, checkpoint }).toEqual({
      enforces: { cpu: true, memory: true, pids: true, disk: false },
      quota: ["none"],
      checkpoint: "commit",
    });
    expect(weaker.map((one) => one.what)).toContain("a sandbox can fill the engine's disk");
  });

  test("has no network, whatever is asked", async () => {
    const network = NetworkPolicy.parse({ mode: "allowlist", hosts: [{ name: "pypi.test" }] });
    expect((await driver.capabilities()).network).toEqual(["none"]);
    await expect(driver.create(spec({ network }))).rejects.toMatchObject({ code: "network-unsupported" });
    await using box = await sandbox();
    await expect(box.setNetwork(network)).rejects.toMatchObject({ code: "network-unsupported" });
    await box.setNetwork({ mode: "none" });
    expect(box.spec.network).toEqual({ mode: "none" });
  });

  test("is as closed as one of the other driver", async () => {
    await using box = await sandbox();
    const { stdout } = await box.exec({
      argv: [
        "sh",
        "-c",
        "grep -E '^(Cap(Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status; ls /sys/class/net; cat /etc/hosts; env",
      ],
      user: "root",
    });
    expect(stdout).toContain("NoNewPrivs:\t1\nSeccomp:\t2\n");
    expect(stdout).toMatch(/CapEff:\t00000000000001fb\nCapBnd:\t00000000000001fb/);
    expect(stdout).toContain("\nlo\n127.0.0.1 localhost sandbox\n::1 localhost\n");
    expect(stdout).not.toMatch(/proxy=/i);
    for (const refused of [
      "unshare -r true",
      "mknod /tmp/d b 8 0",
      "chroot /proc/1/root mount -t tmpfs t /mnt",
      "hostname x",
    ])
      expect((await box.exec({ argv: ["sh", "-c", refused], user: "root" })).exitCode, refused).not.toBe(0);
    // keyctl, io_uring_setup and clone3. The engine's own filter would let the first one through.
    const calls = "print join ' ', map { syscall($_, 0, 0, 0, 0, 0) < 0 ? $! + 0 : 'passed' } 250, 425, 435";
    if (process.arch === "x64")
      expect((await box.exec({ argv: ["perl", "-e", calls], user: "root" })).stdout).toBe("1 1 38");
  });

  test("keeps its limits", async () => {
    await using box = await sandbox({ limits: { memoryBytes: 64 * 2 ** 20, pids: 16 } });
    const hog = await box.exec({
      argv: ["perl", "-e", "$x = 'x' x (200 * 1024 * 1024); print 'had it'"],
      user: "agent",
    });
    expect(hog).toMatchObject({ exitCode: 137, stdout: "" });
    const bomb =
      "for (1 .. 40) { my $p = fork; last if !defined $p; $n++ if $p; sleep 60, exit if !$p } print $n";
    const { stdout } = await box.exec({ argv: ["perl", "-e", bomb], user: "agent" });
    expect(Number(stdout)).toBeGreaterThan(8);
    expect(Number(stdout)).toBeLessThan(16);
    await box.killAgentProcesses();
    expect(await output(box, "echo well")).toBe("well\n");
    const stats = await box.stats();
    expect(stats).toMatchObject({ oomKills: null, pids: 1 });
    expect(stats.memoryBytes).toBeGreaterThan(0);
    expect(stats.cpuMs).toBeGreaterThan(0);
  });

  test("runs as the image's user in the image's directory, or as somebody it has added", async () => {
    await using box = await sandbox();
    expect(await output(box, "id -un; pwd")).toBe("agent\n/work\n");
    await box.exec({
      argv: ["sh", "-c", "echo 'eve:x:1234:1234::/home/eve:/bin/sh' >> /etc/passwd"],
      user: "root",
    });
    const { stdout } = await box.exec({ argv: ["sh", "-c", "id -u; echo $HOME"], user: "eve" });
    expect(stdout).toBe("1234\n/home/eve\n");
    await expect(box.exec({ argv: ["true"], user: "nobody-here" })).rejects.toMatchObject({
      code: "user-unknown",
    });
  });

  test.each([
    ["an image that nobody has", { image: "no/such:1" }, "image-missing"],
    ["an id that is no id", { id: "No Id" }, "id-invalid"],
    ["a file under a file of the image", { files: [file("/etc/passwd/x", "")] }, "spec-invalid"],
    ["a user who is not there", { user: "nobody-here" }, "user-unknown"],
    ["more memory than the engine's host has", { limits: { memoryBytes: 2 ** 50 } }, "limits-above-host"],
  ] as const)("refuses a spec with %s and leaves nothing", async (_, more, code) => {
    await expect(sandbox(more as Parameters<typeof spec>[0])).rejects.toMatchObject({ code });
    expect(await containers()).toEqual([]);
  });

  test("has an id of its own", async () => {
    await using box = await sandbox({ id: "mine" });
    expect(box.id).toBe("mine");
    await expect(sandbox({ id: "mine" })).rejects.toMatchObject({ code: "id-taken" });
    await using other = openDockerDriver({ socket: engine.socket, unenforced: ["disk"] });
    await expect(other.create(spec({ id: "mine" }))).rejects.toMatchObject({ code: "id-taken" });
    expect(await output(box, "echo here")).toBe("here\n");
  });
});

describe.skipIf(engineObstacle)(engineSuite("its end"), () => {
  test("comes no sooner while its clocks are held", async () => {
    const box = await sandbox({ idleMs: 700, limits: { lifetimeMs: 900 } });
    const hold = await box.hold(60_000);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(box.endReason).toBeUndefined();
    hold[Symbol.dispose]();
    expect(["lifetime", "idle"]).toContain(await box.ended);
  });

  test("is told with its reason, and leaves nothing at the engine", async () => {
    const [destroyed, crashed, short, idle] = await Promise.all([
      sandbox(),
      sandbox(),
      sandbox({ limits: { lifetimeMs: 1_000 } }),
      sandbox({ idleMs: 500 }),
    ]);
    expect(driver.list()).toContain(destroyed);
    await Promise.all([destroyed.destroy(), destroyed.destroy()]);
    await client.order("POST", `/containers/ale-${crashed.id}/kill`);
    const reasons = [destroyed, crashed, short, idle].map((box) => box.ended);
    expect(await Promise.all(reasons)).toEqual(["destroyed", "crashed", "lifetime", "idle"]);
    expect(driver.list()).toEqual([]);
    expect(await containers()).toEqual([]);
    expect(await destroyed.readFile("/work/a")).toMatchObject({ ok: false, error: { type: "sandbox-gone" } });
    await expect(destroyed.stats()).rejects.toMatchObject({ code: "sandbox-gone" });
  });

  test("comes with the end of its owner, by the engine's own hand", async () => {
    const owner = spawn(process.execPath, [join(import.meta.dirname, "docker-owner.ts"), engine.socket], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [ids] = await new Promise<[string[]]>((resolve) =>
      owner.stdout.once("data", (data) => resolve([JSON.parse(String(data))])),
    );
    expect([...(await driver.reap()).alive].sort()).toEqual([...ids].sort());
    owner.kill("SIGKILL");
    await expect.poll(containers, { timeout: 20_000 }).toEqual([]);
    expect(await driver.reap()).toEqual({ reaped: [], alive: [], failures: [] });
  });

  test("of a dead owner's remnants is for the next driver; living and foreign owners' are left alone", async () => {
    await using box = await sandbox();
    const make = async (name: string, owner: string): Promise<void> => {
      const Labels = { [LABEL.kind]: "sandbox", [LABEL.id]: name, [LABEL.owner]: owner };
      const json = { Image: await imageId(), Cmd: ["true"], Labels };
      await client.order("POST", "/containers/create", { query: { name: `ale-${name}` }, json });
    };
    const imageId = async (): Promise<string> =>
      (await client.json("GET", "/images/json", z.array(z.object({ Id: z.string() }))))[0]?.Id ?? "";
    await make("dead", ownerLabel().replace(/-\d+-\d+-$/, "-1-1-"));
    await make("living", ownerLabel());
    await make("foreign", `elsewhere ${"0".repeat(32)}-1-1-`);
    const report = await driver.reap();
    expect(report.reaped).toEqual(["dead"]);
    expect([...report.alive].sort()).toEqual(["foreign", "living", box.id].sort());
    for (const name of ["living", "foreign"])
      await client.order("DELETE", `/containers/ale-${name}`, { query: { force: true } });
  });

  test("creation that is aborted leaves nothing behind", async () => {
    const abort = new AbortController();
    const attempts = Promise.allSettled([1, 2, 3].map(() => driver.create(spec(), abort.signal)));
    setTimeout(() => abort.abort(new Error("changed my mind")), 40);
    const rejected = (await attempts).filter((one) => one.status === "rejected");
    expect(rejected.length).toBeGreaterThan(0);
    for (const one of await attempts) if (one.status === "fulfilled") await one.value.destroy();
    expect(await containers()).toEqual([]);
  });
});

describe.skipIf(engineObstacle)(engineSuite("a pool at an engine"), () => {
  test("keeps sandboxes ready, and replaces what was taken or died", async () => {
    await using pool = driver.pool(spec({ env: { A: "b" } }), { size: 2 });
    await pool.filled();
    const [waiting, dead] = driver.list();
    expect([pool.ready, driver.list().length]).toEqual([2, 2]);
    await using box = await pool.take();
    expect(box).toBe(waiting);
    expect(await output(box, "echo $A; pwd")).toBe("b\n/work\n");
    await dead?.destroy();
    await using next = await pool.take();
    expect([box, dead]).not.toContain(next);
    expect(next.endReason).toBeUndefined();
  });

  test("lets lifetime and idleness count from the taking on", async () => {
    await using pool = driver.pool(spec({ idleMs: 300, limits: { lifetimeMs: 60_000 } }), { size: 1 });
    await pool.filled();
    const [waiting] = driver.list();
    await new Promise((resolve) => setTimeout(resolve, 600));
    const box = await pool.take();
    expect(box).toBe(waiting);
    expect((await box.stats()).uptimeMs).toBeLessThan(300);
    expect(await box.ended).toBe("idle");
  });

  test("says why none can be made, and closes with its driver", async () => {
    await using other = openDockerDriver({ socket: engine.socket, unenforced: ["disk"] });
    const broken = other.pool(spec({ image: "no/such" }), { size: 1 });
    await expect(broken.take()).rejects.toMatchObject({ code: "image-missing" });
    expect(() => other.pool(spec({ id: "a" }), { size: 1 })).toThrow("one id");
    const pool = other.pool(spec(), { size: 1 });
    await pool.filled();
    await other[Symbol.asyncDispose]();
    await expect(pool.take()).rejects.toMatchObject({ code: "pool-closed" });
    expect(await containers()).toEqual([]);
  });
});

describe.skipIf(engineObstacle)(engineSuite("snapshots by commit"), () => {
  test("are forked, compared, listed and removed; processes of the source go on", async () => {
    await using box = await sandbox({ files: [file("/work/a", "one")], env: { COLOUR: "red" } });
    await box.shell.run("sleep 600 & rm /etc/shadow; echo two > b; ln -s b c");
    await box.exec({ argv: ["rm", "/etc/shells"], user: "root" });
    const first = await box.snapshot({ labels: { step: "1" } });
    expect(first).toMatchObject({
      processes: "kept",
      snapshot: { parent: null, depth: 1, sandbox: box.id, image: "ale/base", labels: { step: "1" } },
    });
    expect(await output(box, "pgrep -c sleep")).toBe("1\n");
    const [fork, other] = await driver.snapshots.fork(first.snapshot.id, 2, {
      labels: { n: "x" },
      env: { SIZE: "9" },
    });
    await using child = fork!;
    await using _other = other!;
    expect(child.id).not.toBe(box.id);
    expect(
      await output(child, "cat a b c; echo $COLOUR $SIZE; id -un; pwd; pgrep -c sleep; echo 3 > b; rm a"),
    ).toBe("onetwo\ntwo\nred 9\nagent\n/work\n0\n");
    const second = await child.snapshot();
    expect(second.snapshot).toMatchObject({ parent: first.snapshot.id, depth: 2, image: "ale/base" });
    expect(await output(_other, "cat a b")).toBe("onetwo\n");
    const changes = await driver.snapshots.diff(first.snapshot.id, second.snapshot.id);
    expect(changes.map(({ path, change }) => `${change} ${path}`)).toEqual([
      "removed /work/a",
      "changed /work/b",
    ]);
    const whole = await driver.snapshots.diff(null, first.snapshot.id);
    expect(whole.map(({ path, change }) => `${change} ${path}`)).toEqual([
      "removed /etc/shells",
      "added /work",
      "added /work/a",
      "added /work/b",
      "added /work/c",
    ]);
    expect((await driver.snapshots.list()).map(({ id }) => id)).toEqual([
      first.snapshot.id,
      second.snapshot.id,
    ]);
    // Its forks still run.
    await driver.snapshots.remove(first.snapshot.id);
    expect(await driver.snapshots.get(first.snapshot.id)).toBeUndefined();
    await expect(driver.snapshots.fork(first.snapshot.id, 1)).rejects.toMatchObject({
      code: "snapshot-unknown",
    });
    expect(await output(_other, "cat a")).toBe("one");
    await driver.snapshots.remove(second.snapshot.id);
    expect(await driver.snapshots.list()).toEqual([]);
  });

  test("are what a sandbox goes back to: same id, the shell where it was, files as they were", async () => {
    await using box = await sandbox();
    const session = await box.openSession({ cwd: "/tmp" });
    await box.shell.run("echo one > a; cd /tmp; export STEP=1; hi() { echo hi $STEP; }");
    await session.run("side=yes; export SIDE=here");
    const { snapshot } = await box.snapshot();
    await box.shell.run("echo two > /work/a; export STEP=2; cd /; sleep 600 &");
    await box.revert(snapshot.id);
    expect(await output(box, "cat /work/a; pwd; hi; pgrep -c sleep")).toBe("one\n/tmp\nhi 1\n0\n");
    expect((await session.run("echo $SIDE; pwd")).output).toBe("here\n/tmp\n");
    expect(box.endReason).toBeUndefined();
    expect(driver.list()).toContain(box);
    await expect(box.revert("sn-nowhere")).rejects.toMatchObject({ code: "snapshot-unknown" });
    expect(await output(box, "echo still here")).toBe("still here\n");
    await driver.snapshots.remove(snapshot.id);
    expect((await driver.reap()).failures).toEqual([]);
  });
});
