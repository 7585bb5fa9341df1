import { closeSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type Telemetry, telemetryNow } from "@ale/core";
import { afterAll, describe, expect, test } from "vitest";
import { mountDetached } from "../src/host/fsmount.ts";
import { inspectHost, OciDriver } from "../src/index.ts";
import { reapTraces } from "../src/telemetry/tracefs.ts";
import { closeDriver, driver, freshHome, obstacle, sandbox, spec, suite, until } from "./support.ts";
import { listenTo, type Watched } from "./telemetry-support.ts";

afterAll(closeDriver);
const can = obstacle === undefined ? await (await driver()).capabilities() : undefined;

const denials = can?.trace.find((one) => one !== "tracefs");

describe.skipIf(denials === undefined)(suite("a system call that the filter refuses"), () => {
  test("is told to whoever listens to that sandbox, with its time and its process", async () => {
    await using box = await sandbox();
    await using bystander = await sandbox();
    const told: Telemetry[] = [];
    const others: Telemetry[] = [];
    using _listening = box.onTelemetry((record) => told.push(record));
    using _other = bystander.onTelemetry((record) => others.push(record));
    const denied = () => told.filter(({ kind }) => kind === "syscall.denied");
    const before = telemetryNow();
    // Another one that was refused just before may have used up what the kernel writes in five seconds.
    await until("the kernel tells of it", () => {
      void box.exec({ argv: ["perl", "-e", "syscall(272, 0x10000000)"], user: "root" });
      return denied().length > 0;
    });
    expect(denied()[0]).toMatchObject({
      source: denials,
      sandbox: box.id,
      syscall: { name: "unshare" },
      process: { exe: expect.stringMatching(/perl$/) },
    });
    expect(denied()[0]!.at).toBeGreaterThan(before - 50);
    expect(denied()[0]!.at).toBeLessThan(telemetryNow());
    expect(others.filter(({ kind }) => kind === "syscall.denied")).toEqual([]);
  });
});

/** A program that is copied into memory and executed there, under a name that looks like another's path. */
const IN_MEMORY = `exec perl -e '$n = q(../bin/sh); $fd = syscall(319, $n, 1); open O, ">&=$fd"; open I, "/bin/true";
local $/; syswrite O, <I>; exec {"/proc/self/fd/$fd"} "true", "x"'`;

describe.skipIf(!can?.telemetry.includes("tracefs"))(suite("the kernel's trace of a sandbox"), () => {
  /** What its shell's start took was told before anybody asks. */
  async function watched(): Promise<Watched> {
    const box = await sandbox();
    await box.shell.run("true");
    const one = listenTo(box);
    await box.drainTelemetry();
    return one;
  }
  const commands = (records: readonly Telemetry[]): (string | undefined)[] =>
    records.map(({ process }) => process?.command);

  test("tells each program that starts, once a drain has come back, and nobody else's", async () => {
    await using one = await watched();
    await using other = await watched();
    const before = telemetryNow();
    await one.box.shell.run("sleep 0.5; sleep 0.6");
    await other.box.shell.run("sleep 0.7");
    // The session's own shell may be told as well, where it began late enough.
    const sleeps = async ({ told }: typeof one) =>
      (await told("process.exec")).filter(({ process }) => process?.exe?.endsWith("/sleep"));
    const execs = await sleeps(one);
    expect(commands(execs)).toEqual(["sleep 0.5", "sleep 0.6"]);
    expect(commands(await sleeps(other))).toEqual(["sleep 0.7"]);
    for (const { at, process } of execs) {
      expect(at).toBeGreaterThan(before);
      expect(at).toBeLessThan(telemetryNow());
      expect(process!.startedAt).toBeLessThanOrEqual(at);
      expect(process!.lineage!.length).toBe(process!.ancestry!.length);
    }
    expect(execs[0]!.at).toBeLessThan(execs[1]!.at - 50);
  });

  test("knows who began a daemon whose parents are gone", async () => {
    await using one = await watched();
    const marker = "sleep 0.3";
    // Twice forked, in a session of its own, its parents gone before it does anything.
    const daemon = `my $p = fork; exit if $p; use POSIX; POSIX::setsid(); exit if fork; select undef, undef, undef, 0.2; exec q(${marker})`;
    const result = await one.box.shell.run(`echo $$; perl -e '${daemon}'; sleep 0.5`);
    const shell = (await one.told("process.exec")).find(({ process }) => process?.exe?.endsWith("perl"))!
      .process!;
    const found = (await one.told("process.exec")).find(({ process }) => process?.command === marker)!;
    expect(result.exitCode).toBe(0);
    // The two that were forked and ended, and the shell whose command it was.
    const line = found.process!.lineage!.map(({ pid }) => pid);
    expect(line).toContain(shell.pid);
    expect(line.at(-1)).toBe(shell.lineage!.at(-1)!.pid);
    expect(found.process!.lineage!.map(({ startedAt }) => startedAt)).toEqual(
      found.process!.lineage!.map(({ startedAt }) => startedAt).toSorted((a, b) => b - a),
    );
  });

  test.skipIf(can?.arguments !== "kernel").each([
    [
      "over at once, by a relative name",
      "cd /usr/bin; ./true a 'b c'",
      "/usr/bin/true",
      "./true a b c",
      undefined,
    ],
    [
      "of more arguments than are kept",
      "/bin/true $(printf '%05000d' 0)",
      "/bin/true",
      `/bin/true ${"0".repeat(4_086)}`,
      "cut",
    ],
    ["that lies in no directory", IN_MEMORY, "/memfd:../bin/sh", "true x", undefined],
  ] as const)("knows a program %s", async (_, script, exe, command, lacking) => {
    await using one = await watched();
    await one.box.exec({ argv: ["bash", "-c", script] });
    const [last] = (await one.told("process.exec")).slice(-1);
    expect(last?.process).toMatchObject({ exe, command });
    expect(last?.process?.arguments).toBe(lacking);
  });

  test.skipIf(can?.arguments !== "kernel")(
    "has the kernel look no longer than anybody listens, and leaves nothing in it",
    async () => {
      using home = await freshHome();
      const before = openBpf();
      const mine = new OciDriver({ home: home.path });
      const box = await mine.create(spec());
      const listening = box.onTelemetry(() => {});
      const meanwhile = openBpf();
      listening[Symbol.dispose]();
      const after = openBpf();
      await mine[Symbol.asyncDispose]();
      // Two maps, a program, and the place where it is attached.
      expect([meanwhile.length - before.length, after.length - before.length]).toEqual([4, 3]);
      expect(openBpf()).toEqual(before);
    },
  );

  test("tells connections that are asked for, also by programs that are gone at once", async () => {
    await using one = await watched();
    await one.box.exec({ argv: ["bash", "-c", ": < /dev/tcp/127.0.0.1/99"] });
    await one.box.exec({ argv: ["bash", "-c", ": < /dev/tcp/::1/98"] });
    expect(await one.told("net.connect")).toMatchObject([
      {
        net: { ip: "127.0.0.1", port: 99, protocol: "tcp" },
        process: { exe: expect.stringMatching(/bash$/) },
      },
      { net: { ip: "::1", port: 98 } },
    ]);
  });

  test("tells system calls that are allowed and deserve a look", async () => {
    await using one = await watched();
    const calls = "$n = q(x); syscall(319, $n, 0); syscall(101, 0, 0, 0, 0)";
    await one.box.exec({ argv: ["perl", "-e", calls] });
    const names = (await one.told("syscall")).map(({ syscall }) => syscall);
    expect(names).toEqual([
      { name: "memfd_create", arguments: expect.stringMatching(/flags=0x0$/) },
      { name: "ptrace", arguments: expect.stringMatching(/^request=TRACEME/) },
    ]);
  });

  test("adds the true ancestors to what another collector saw of a process", async () => {
    await using one = await watched();
    const refused = async () =>
      (await one.told("syscall.denied")).filter(({ process }) => process?.lineage !== undefined);
    let found: Telemetry[] = [];
    for (let round = 0; round < 100 && found.length === 0; round++) {
      await one.box.shell.run("(perl -e 'syscall(272, 0x10000000); sleep 1')");
      found = await refused();
    }
    expect(found[0]!.process!.command).toContain("syscall(272");
    expect(found[0]!.process!.ancestry!.at(-1)).toMatch(/^bash/);
  });

  test("goes on when the sandbox begins anew, and leaves out what makes it", async () => {
    await using one = await watched();
    const { snapshot } = await one.box.snapshot();
    await one.box.shell.run("sleep 0.4");
    await one.box.revert(snapshot.id);
    await one.box.shell.run("sleep 0.5");
    const execs = commands(await one.told("process.exec"));
    expect(execs).toEqual(expect.arrayContaining(["sleep 0.4", "sleep 0.5"]));
    expect(execs.filter((command) => /crun|runc|init|perl/.test(command ?? ""))).toEqual([]);
    await (await driver()).snapshots.remove(snapshot.id);
  });

  test("knows a session's shell, one that took its place or came back with a snapshot, and no program that looks like one, also under load", async () => {
    const busy = await Promise.all([sandbox(), sandbox()]);
    const load = { argv: ["bash", "-c", "while :; do /bin/true; done"], timeoutMs: 100_000 };
    const running = busy.map((box) => box.exec(load));
    await using one = listenTo(await sandbox());
    const { box } = one;
    // The thread that reads the trace has begun.
    await box.drainTelemetry();
    // Told apart by their paths, which the trace has of every program: who is busy may miss a command line.
    const nap = (n: number): string => `/work/nap-${n}`;
    await box.shell.run(
      `for n in 1 2 3 4 5; do cp /bin/sleep ${nap(0).slice(0, -1)}$n; done; ${nap(1)} 0.01`,
    );
    await box.shell.run(`(${nap(2)} 0.3 & exit)`);
    await box.shell.run("exit 3");
    await box.shell.run(`${nap(3)} 0.01`);
    const { snapshot } = await box.snapshot();
    await box.revert(snapshot.id);
    await box.shell.run(`${nap(4)} 0.01`);
    const imitation = ["bash", "--norc", "--noprofile", "--noediting", "-i", "-c", `${nap(5)} 0.01; true`];
    await box.exec({ argv: imitation });
    const execs = (await one.told("process.exec")).map(({ process }) => process);
    const shells = [1, 2, 3, 4, 5].map((n) => {
      const found = execs.find((process) => process?.exe === nap(n));
      const outermost = found?.lineage?.at(-1)?.pid;
      expect([n, outermost]).toEqual([n, expect.any(Number)]);
      return { named: found?.shell, outermost };
    });
    expect(shells.slice(0, 4).filter(({ named, outermost }) => named !== outermost)).toEqual([]);
    expect(shells[4]?.named).toBeUndefined();
    expect(shells[1]?.named).toBe(shells[0]?.named);
    expect(new Set(shells.map(({ named }) => named)).size).toBe(4);
    await Promise.all(busy.map((other) => other.destroy()));
    await Promise.allSettled(running);
    await (await driver()).snapshots.remove(snapshot.id);
  }, 120_000);

  test("cannot be forged by what a program is called", async () => {
    await using one = await watched();
    const name =
      "/work/x\n bash-1 [000] d..2. 1.000000: sched_process_exec: filename=/bin/evil pid=1 old_pid=1";
    await one.box.files.write(name, "#!/bin/sh\nsleep 0.05\n");
    await one.box.files.changeMode(name, 0o755);
    await one.box.exec({ argv: [name] });
    const exes = (await one.told("process.exec")).map(({ process }) => process?.exe);
    expect(exes).toContain(name);
    expect(exes.filter((exe) => exe === "/bin/evil")).toEqual([]);
  });

  test("loses nothing when several sandboxes start programs by the hundred", async () => {
    const boxes = await Promise.all([watched(), watched(), watched()]);
    const loop = {
      argv: ["bash", "-c", "for i in $(seq 300); do /bin/true a b c; done"],
      timeoutMs: 150_000,
    };
    for (const { exitCode } of await Promise.all(boxes.map(({ box }) => box.exec(loop))))
      expect(exitCode).toBe(0);
    for (const one of boxes) {
      const execs = await one.told("process.exec");
      const trues = execs.filter(({ process }) => process?.exe?.endsWith("/true"));
      expect(trues.length).toBe(300);
      if (can?.arguments === "kernel") expect(new Set(commands(trues))).toEqual(new Set(["/bin/true a b c"]));
      expect(execs.reduce((sum, { suppressed = 0 }) => sum + suppressed, 0)).toBe(0);
    }
    await Promise.all(boxes.map((one) => one[Symbol.asyncDispose]()));
  }, 180_000);

  test("is switched off with the last listener and gone with the driver; the next owner removes a dead one's", async () => {
    using home = await freshHome();
    const mine = new OciDriver({ home: home.path });
    const box = await mine.create(spec());
    const before = instances();
    box.onTelemetry(() => {})[Symbol.dispose]();
    const [own] = instances().filter((name) => !before.includes(name));
    expect(own).toMatch(new RegExp(`^ale-${process.pid}-`));
    expect(readTrace(`instances/${own}/events/enable`)).toBe("0\n");
    await mine[Symbol.asyncDispose]();
    expect(instances()).not.toContain(own);

    const dead = "ale-1-1-0";
    inTracefs((root) => mkdirSync(`${root}/instances/${dead}`));
    expect(inspectHost(home.path).orphans).toContainEqual({ type: "trace", what: dead });
    expect(await reapTraces()).toContain(dead);
    expect(instances()).not.toContain(dead);
  });
});

/** Descriptors of this process that hold something in the kernel's BPF. */
const openBpf = (): string[] =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const to = readlinkSync(`/proc/self/fd/${fd}`);
      return /bpf/.test(to) ? [`${fd} ${to}`] : [];
    } catch {
      return [];
    }
  });

function inTracefs<T>(look: (root: string) => T): T {
  const mounted = mountDetached("tracefs");
  try {
    return look(`/proc/self/fd/${mounted}`);
  } finally {
    closeSync(mounted);
  }
}
const instances = (): string[] => inTracefs((root) => readdirSync(`${root}/instances`));
const readTrace = (path: string): string => inTracefs((root) => readFileSync(`${root}/${path}`, "utf8"));
