import { afterAll, describe, expect, test } from "vitest";
import { OciDriver, type Sandbox } from "../src/index.ts";
import { closeDriver, driver, freshHome, obstacle, sandbox, spec, suite, traces } from "./support.ts";

const MIB = 2 ** 20;

afterAll(closeDriver);

async function asRoot(box: Sandbox, script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await box.exec({ argv: ["bash", "-c", script], user: "root" });
  expect(`${stderr}${exitCode}`).toBe("0");
  return stdout;
}

async function sh(box: Sandbox, script: string): Promise<{ output: string }> {
  return { output: (await box.exec({ argv: ["bash", "-c", script] })).stdout };
}

describe.skipIf(obstacle)(suite("a snapshot"), () => {
  test("keeps what was there while the sandbox goes on above it", async () => {
    await using box = await sandbox({ labels: { of: "box" } });
    await sh(box, "echo one > a; mkdir d; echo x > d/x");
    const { snapshot } = await box.snapshot({ labels: { step: "1" } });
    expect(snapshot).toMatchObject({
      image: "ale/base",
      parent: null,
      sandbox: box.id,
      labels: { step: "1" },
      depth: 1,
    });
    expect(snapshot.bytes).toBeGreaterThan(0);
    await sh(box, "echo two > a; rm -r d; echo new > b");
    const { snapshots } = await driver();
    const [fork] = await snapshots.fork(snapshot.id, 1);
    expect((await sh(fork!, "cat a d/x; ls")).output).toBe("one\nx\na\nd\n");
    expect((await sh(box, "cat a; ls")).output).toBe("two\na\nb\n");
    await fork!.destroy();
    expect(await snapshots.get(snapshot.id)).toEqual(snapshot);
    await snapshots.remove(snapshot.id);
    expect(await snapshots.get(snapshot.id)).toBeUndefined();
    expect((await sh(box, "cat a; ls")).output).toBe("two\na\nb\n");
  });

  test("ends the processes and says so; id, limits, labels and counters stay", async () => {
    await using box = await sandbox({ limits: { pids: 33 }, labels: { a: "b" } });
    await sh(box, "setsid sleep 600 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    const before = await box.stats();
    const { processes } = await box.snapshot();
    expect(processes).toBe("lost");
    const after = await box.stats();
    expect(
      (await box.exec({ argv: ["bash", "-c", "ls -d /proc/[0-9]* | wc -l"], user: "root" })).stdout,
    ).not.toBe("");
    expect(await asRoot(box, "grep -l sleep /proc/[0-9]*/comm || true")).toBe("");
    expect(box.endReason).toBeUndefined();
    expect((await driver()).list()).toContain(box);
    expect(after.cpuMs).toBeGreaterThanOrEqual(before.cpuMs!);
    expect(box.spec.limits.pids).toBe(33);
  });

  test("with `keep` leaves the processes running and copies", async () => {
    await using box = await sandbox();
    await sh(
      box,
      "f() { echo function; }; echo one > a; ln a hard; mkfifo p; (while sleep 0.02; do date +%N > tick.new; mv tick.new tick; done) &",
    );
    const { snapshot, processes } = await box.snapshot({ processes: "keep" });
    expect(processes).toBe("kept");
    await sh(box, "echo two > a");
    expect(
      (
        await sh(
          box,
          "until t=$(cat tick 2>&-); do sleep 0.01; done; until [ $t != $(cat tick) ]; do sleep 0.01; done; echo ticks",
        )
      ).output,
    ).toBe("ticks\n");
    const [fork] = await (await driver()).snapshots.fork(snapshot.id, 1);
    expect((await sh(fork!, "cat a hard; stat -c %h a; [ -p p ] && echo pipe; pgrep -c date")).output).toBe(
      "one\none\n2\npipe\n0\n",
    );
    await fork!.destroy();
  });

  test("of a sandbox with a disk of its own", async () => {
    await using box = await sandbox({ limits: { diskBytes: 256 * MIB } });
    await sh(box, "head -c 20000000 /dev/urandom > big; sha256sum big > sum");
    const { snapshot } = await box.snapshot();
    expect(snapshot.bytes).toBeGreaterThan(20_000_000);
    await sh(box, "rm big");
    const forks = await (await driver()).snapshots.fork(snapshot.id, 2, { limits: box.spec.limits });
    for (const fork of forks) {
      expect((await sh(fork, "sha256sum -c sum")).output).toBe("big: OK\n");
      await fork.destroy();
    }
  });

  test("carries the shells over: directory, exported variables, functions; in forks too, where other values win", async () => {
    await using box = await sandbox();
    const second = await box.openSession({ cwd: "/tmp" });
    await box.shell.run("mkdir d; cd d; export A='a b' B=parent; f() { echo \"f of $1\"; }; hidden=1");
    await second.run("export S=second; cd /usr");
    const { snapshot } = await box.snapshot();
    const ask = 'pwd; echo "$A $B $hidden."; f x';
    expect((await box.shell.run(ask)).output).toBe("/work/d\na b parent .\nf of x\n");
    expect((await second.run("pwd; echo $S")).output).toBe("/usr\nsecond\n");
    await box.shell.run("cd /; export A=later; unset -f f");
    const [fork] = await (await driver()).snapshots.fork(snapshot.id, 1, { env: { B: "it's the fork's" } });
    expect((await fork!.shell.run(ask)).output).toBe("/work/d\na b it's the fork's .\nf of x\n");
    await fork!.destroy();
    await box.revert(snapshot.id);
    expect((await box.shell.run(ask)).output).toBe("/work/d\na b parent .\nf of x\n");
    const [, run, again] = await Promise.all([
      box.snapshot(),
      box.shell.run("pwd"),
      box.shell.run("cd /; pwd"),
    ]);
    expect([run.output, again.output]).toEqual(["/work/d\n", "/\n"]);
  });

  test("of a snapshot of a snapshot, each with what it saw", async () => {
    await using box = await sandbox();
    const ids: string[] = [];
    for (const n of [1, 2, 3, 4]) {
      await sh(box, `echo ${n} > n; echo ${n} > only-${n}; rm -f only-${n - 2}`);
      ids.push((await box.snapshot()).snapshot.id);
    }
    const { snapshots } = await driver();
    const seen = await Promise.all(
      ids.map(async (id) => {
        const [fork] = await snapshots.fork(id, 1);
        const { output } = await sh(fork!, "cat n; ls");
        await fork!.destroy();
        return output.replaceAll("\n", " ");
      }),
    );
    expect(seen).toEqual(["1 n only-1 ", "2 n only-1 only-2 ", "3 n only-2 only-3 ", "4 n only-3 only-4 "]);
    expect((await snapshots.list()).filter((one) => ids.includes(one.id)).map((one) => one.parent)).toEqual([
      null,
      ...ids.slice(0, 3),
    ]);
    // What later ones need outlives the earlier ones.
    for (const id of ids.slice(0, 3)) await snapshots.remove(id);
    const [last] = await snapshots.fork(ids[3]!, 1);
    expect((await sh(last!, "cat only-3 only-4")).output).toBe("3\n4\n");
    await last!.destroy();
  });

  test("is not taken beyond the budget, and the sandbox runs on", async () => {
    using home = await freshHome();
    await using own = new OciDriver({ home: home.path, snapshotBytes: 4 * MIB });
    const box = await own.create(spec());
    await sh(box, "sleep 600 & head -c 3000000 /dev/urandom > a");
    await box.snapshot({ processes: "keep" });
    await expect(box.snapshot()).rejects.toMatchObject({ code: "snapshot-budget" });
    expect((await sh(box, "cat /proc/[0-9]*/comm | grep -c sleep")).output).toBe("1\n");
    const [first] = await own.snapshots.list();
    await own.snapshots.remove(first!.id);
    expect((await box.snapshot()).snapshot.bytes).toBeGreaterThan(3_000_000);
  });

  test("waits for what is being written from outside; what is written later is not in it", async () => {
    await using box = await sandbox();
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("first ");
      await held;
      yield Buffer.from("last\n");
    }
    const writing = box.files.write("/work/slow", slowly());
    await sh(box, "until [ -e slow ]; do sleep 0.01; done");
    const taking = box.snapshot();
    const late = box.files.write("/work/late", "late\n");
    release();
    const { snapshot } = await taking;
    expect([(await writing).ok, (await late).ok]).toEqual([true, true]);
    const [fork] = await (await driver()).snapshots.fork(snapshot.id, 1);
    expect((await sh(fork!, "cat slow; ls")).output).toBe("first last\nslow\n");
    await fork!.destroy();
    expect((await sh(box, "cat slow late")).output).toBe("first last\nlate\n");
  });

  test("of a sandbox that has ended is refused", async () => {
    const box = await sandbox();
    await box.destroy();
    await expect(box.snapshot()).rejects.toMatchObject({ code: "sandbox-gone" });
  });

  test("while it is asked for other things, which wait; destroyed meanwhile, nothing is left", async () => {
    using home = await freshHome();
    const own = new OciDriver({ home: home.path });
    const box = await own.create(spec());
    await sh(box, "echo here > a");
    const [, output, read, second] = await Promise.all([
      box.snapshot(),
      box.exec({ argv: ["cat", "a"] }),
      box.readFile("/work/a"),
      box.snapshot(),
    ]);
    expect(output.stdout).toBe("here\n");
    expect(read).toMatchObject({ ok: true });
    expect(second.snapshot.depth).toBe(2);
    const racing = box.snapshot().then(
      () => "taken",
      (error: { code: string }) => error.code,
    );
    await box.destroy();
    expect(["taken", "sandbox-gone"]).toContain(await racing);
    await own[Symbol.asyncDispose]();
    expect(traces(home.path, [box.id])).toEqual([]);
  });
});

describe.skipIf(obstacle)(suite("a fork"), () => {
  test("has an identity, limits and an environment of its own, and shares nothing that changes", async () => {
    await using box = await sandbox({ env: { A: "parent", B: "parent" } });
    await sh(box, "echo common > common");
    const { snapshot } = await box.snapshot();
    const limits = { ...box.spec.limits, pids: 21, diskBytes: 8 * MIB };
    const options = { env: { B: "fork" }, labels: { l: "f" }, limits };
    const forks = await (await driver()).snapshots.fork(snapshot.id, 3, options);
    expect(new Set([box.id, ...forks.map((fork) => fork.id)]).size).toBe(4);
    const names = await Promise.all([box, ...forks].map((one) => one.exec({ argv: ["hostname"] })));
    expect(new Set(names.map((name) => name.stdout)).size).toBe(4);
    for (const [n, fork] of forks.entries()) {
      expect(fork.spec).toMatchObject({ limits, labels: { l: "f" } });
      await sh(fork, `echo ${n} > common`);
      expect((await fork.exec({ argv: ["bash", "-c", "echo $A $B"] })).stdout).toBe("parent fork\n");
    }
    const seen = await Promise.all([box, ...forks].map((one) => sh(one, "cat common")));
    expect(seen.map((one) => one.output)).toEqual(["common\n", "0\n", "1\n", "2\n"]);
    await Promise.all(forks.map((fork) => fork.destroy()));
  });

  test("outlives its snapshot and its source", async () => {
    using home = await freshHome();
    const own = new OciDriver({ home: home.path });
    const box = await own.create(spec());
    await sh(box, "echo here > a");
    const { snapshot } = await box.snapshot();
    const [fork] = await own.snapshots.fork(snapshot.id, 1);
    await box.destroy();
    await own.snapshots.remove(snapshot.id);
    expect((await sh(fork!, "cat a")).output).toBe("here\n");
    await expect(own.snapshots.fork(snapshot.id, 1)).rejects.toMatchObject({ code: "snapshot-unknown" });
    const layers = traces(home.path, []).filter((line) => line.includes("/.layers/"));
    expect(layers).toHaveLength(2);
    await fork!.destroy();
    expect(traces(home.path, []).filter((line) => line.includes("/.layers/"))).toEqual([]);
    await own[Symbol.asyncDispose]();
    expect(traces(home.path, [box.id, fork!.id])).toEqual([]);
  });

  test("that fails leaves none of its siblings", async () => {
    await using box = await sandbox();
    const { snapshot } = await box.snapshot();
    const own = await driver();
    const before = own.list().length;
    const abort = new AbortController();
    const forks = own.snapshots.fork(snapshot.id, 6, {}, abort.signal);
    setTimeout(() => abort.abort(new Error("changed my mind")), 15);
    await expect(forks).rejects.toThrow("changed my mind");
    expect(own.list()).toHaveLength(before);
    const limits = { ...box.spec.limits, memoryBytes: 2 ** 50 };
    await expect(own.snapshots.fork(snapshot.id, 2, { limits })).rejects.toMatchObject({
      code: "limits-above-host",
    });
    expect(await own.snapshots.fork(snapshot.id, 0)).toEqual([]);
  });
});

describe.skipIf(obstacle)(suite("revert"), () => {
  test("goes back to a snapshot, also an older one, and on from there", async () => {
    await using box = await sandbox();
    await sh(box, "echo 1 > a");
    const first = (await box.snapshot()).snapshot.id;
    await sh(box, "echo 2 > a; rm -rf /work/x; echo y > y");
    const second = (await box.snapshot()).snapshot.id;
    await sh(box, "sleep 600 & rm a y; echo z > z");
    await box.revert(first);
    expect((await sh(box, "cat a; ls")).output).toBe("1\na\n");
    await box.revert(second);
    expect((await sh(box, "cat a y; ls")).output).toBe("2\ny\na\ny\n");
    await box.revert(first);
    await sh(box, "echo 3 > b");
    const third = (await box.snapshot()).snapshot;
    expect([third.parent, third.depth]).toEqual([first, 2]);
    await expect(box.revert("sn-none")).rejects.toMatchObject({ code: "snapshot-unknown" });
    expect((await sh(box, "cat a b")).output).toBe("1\n3\n");
  });
});

describe.skipIf(obstacle)(suite("a long chain of snapshots"), () => {
  test("is merged in the background, and nobody sees a difference but in its depth", async () => {
    using home = await freshHome();
    const own = new OciDriver({ home: home.path, longestChain: 4 });
    const box = await own.create(spec());
    const taken: string[] = [];
    const steps = [
      "mkdir -p /d/sub /e; echo 1 > /d/one; echo x > /d/sub/x; ln /d/one /d/hard; rm -r /etc/pam.d",
      "rm /d/one; echo 2 > /d/two; chmod 700 /d/sub; echo e > /e/e",
      "rm -r /d/sub; mkdir /d/sub; echo y > /d/sub/y; mkdir /etc/pam.d; echo new > /etc/pam.d/new",
      "rm -r /e; echo file > /e; chown agent /d/two; rm -r /etc/alternatives; echo file > /etc/alternatives",
      "rm /e; mkdir /e; echo again > /e/again; rm /etc/alternatives; mkdir /etc/alternatives; mkfifo /d/pipe; rm /etc/debian_version",
      "echo last > /d/last",
    ];
    const tell =
      "cd /; find /d /e /etc/pam.d /etc/alternatives -printf '%p %y %m %u\\n' | sort; cat /d/last /d/two /d/hard /e/again; ls /etc/debian_version";
    const see = async (id: string): Promise<string> => {
      const [fork] = await own.snapshots.fork(id, 1);
      const { stdout } = await fork!.exec({ argv: ["bash", "-c", tell], user: "root" });
      await fork!.destroy();
      return stdout;
    };
    const seen: string[] = [];
    for (const step of steps) {
      await asRoot(box, step);
      seen.push((await box.exec({ argv: ["bash", "-c", tell], user: "root" })).stdout);
      taken.push((await box.snapshot()).snapshot.id);
    }
    const differences = (): Promise<unknown[]> =>
      Promise.all([
        own.snapshots.diff(null, taken[5]!),
        ...taken.slice(1).map((id, n) => own.snapshots.diff(taken[n]!, id)),
        own.snapshots.diff(taken[0]!, taken[5]!),
      ]);
    const before = await differences();
    await own.flattened();
    expect((await own.snapshots.get(taken[5]!))?.depth).toBeLessThan(4);
    expect(await differences()).toEqual(before);
    for (const [n, id] of taken.entries()) expect(await see(id)).toBe(seen[n]);
    await asRoot(box, "echo more > /d/more");
    const next = (await box.snapshot()).snapshot;
    expect(next.depth).toBeLessThan(5);
    expect((await own.snapshots.diff(taken[5]!, next.id)).map((entry) => entry.path)).toEqual(["/d/more"]);
    for (const id of taken) await own.snapshots.remove(id);
    await own.snapshots.remove(next.id);
    await box.destroy();
    expect(traces(home.path, []).filter((line) => line.includes("/.layers/"))).toEqual([]);
    await own[Symbol.asyncDispose]();
    expect(traces(home.path, [box.id])).toEqual([]);
  });
});
