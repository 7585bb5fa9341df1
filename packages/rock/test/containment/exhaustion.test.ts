import { cpus, loadavg } from "node:os";
import { afterAll, describe, expect, test } from "vitest";
import type { Sandbox } from "../../src/index.ts";
import { closeDriver, obstacle, sandbox, suite } from "../support.ts";
import { asAgent, asRoot, healthy } from "./attack.ts";

/** Attempts to take more than was given. Each ends at its limit, is counted, and leaves the sandbox usable. */
afterAll(closeDriver);

const MIB = 2 ** 20;
const small = (more: Record<string, number> = {}): Promise<Sandbox> =>
  sandbox({ limits: { memoryBytes: 64 * MIB, diskBytes: 16 * MIB, pids: 32, ...more } });

describe.skipIf(obstacle)(suite("exhausting processes"), () => {
  test("a fork bomb in the shell", async () => {
    await using box = await small();
    const result = await box.shell.run("bomb() { bomb | bomb & }; bomb; sleep 0.5", { timeoutMs: 1_000 });
    expect(result.durationMs).toBeLessThan(5_000);
    expect((await box.stats()).pidsRefused).toBeGreaterThan(0);
    expect((await box.stats()).pids).toBeLessThanOrEqual(32);
    await box.killAgentProcesses();
    await healthy(box);
  });

  test("a fork bomb that ignores signals, run as root", async () => {
    await using box = await small();
    const bomb = "$SIG{$_} = 'IGNORE' for qw(TERM INT HUP QUIT); while (1) { fork }";
    const result = await box.exec({ argv: ["perl", "-e", bomb], user: "root", timeoutMs: 400 });
    expect(result.timedOut).toBe(true);
    await box.killAgentProcesses();
    expect((await box.stats()).pidsRefused).toBeGreaterThan(0);
    await healthy(box);
  });

  test("children that only wait", async () => {
    await using box = await small();
    const program =
      "for (1 .. 200) { my $pid = fork; if (!defined $pid) { print 'refused'; last } if (!$pid) { sleep 5; exit } }";
    const result = await box.exec({ argv: ["perl", "-e", program], user: "agent", timeoutMs: 1_000 });
    expect(result.stdout).toBe("refused");
    await box.killAgentProcesses();
    await healthy(box);
  });

  test("zombies, and orphans of orphans: PID 1 reaps them", async () => {
    await using box = await small({ pids: 24 });
    await box.shell.run("for i in $(seq 150); do (true & exec true); setsid sh -c 'sleep 0.01 & exit'; done");
    await box.shell.run("sleep 0.2");
    expect((await asRoot(box, "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l")).stdout).toBe("0\n");
    await healthy(box);
  });

  test("descriptors", async () => {
    await using box = await small();
    const program = "my @h; while (open my $h, q(<), q(/dev/null)) { push @h, $h } print scalar(@h), qq( $!)";
    const { stdout } = await box.exec({ argv: ["perl", "-e", program] });
    expect(stdout).toMatch(/^10[12]\d Too many open files$/);
    await healthy(box);
  });
});

describe.skipIf(obstacle)(suite("exhausting memory"), () => {
  test("one large process is ended, and counted", async () => {
    await using box = await small();
    const result = await box.exec({ argv: ["perl", "-e", "$x = q(x) x (1 << 30)"] });
    expect(result.exitCode).toBe(137);
    expect((await box.stats()).oomKills).toBeGreaterThan(0);
    await healthy(box);
  });

  test("many processes at once do not take PID 1 with them", async () => {
    await using box = await small();
    await box.shell.run("for i in $(seq 12); do perl -e '$x = q(x) x (40 << 20); sleep 1' & done; wait");
    expect((await box.stats()).oomKills).toBeGreaterThan(1);
    await healthy(box);
  });

  test("a shell that grows itself is started anew, and says so", async () => {
    await using box = await small();
    const result = await box.shell.run(
      "x=$(head -c 1000000 /dev/zero | tr '\\0' x); while :; do x=$x$x; done",
    );
    expect(result.shellRestarted || result.exitCode !== 0).toBe(true);
    await healthy(box);
  });

  test("memory that no process has: shared segments and files in memory", async () => {
    await using box = await small();
    const program =
      "for (1 .. 64) { my $fd = syscall(319, my $n = q(x), 0); open(my $f, q(>&=), $fd) or last; syswrite($f, q(x) x (4 << 20)) or last; push @f, $f } print q(done)";
    const result = await box.exec({ argv: ["perl", "-e", program] });
    expect(result.stdout).not.toBe("done");
    expect((await box.stats()).oomKills).toBeGreaterThan(0);
    await healthy(box);
  });

  test("/dev/shm", async () => {
    await using box = await small();
    const { stderr } = await asAgent(box, "head -c 50000000 /dev/zero > /dev/shm/x");
    expect(stderr).toContain("No space left");
    await asRoot(box, "rm /dev/shm/x");
    await healthy(box);
  });

  test("a gigabyte for a command's arguments or environment", async () => {
    await using box = await small();
    const result = await asAgent(box, "x=$(head -c 4000000 /dev/zero | tr '\\0' x); /bin/true $x; echo $?");
    expect(result.stdout).toBe("126\n");
    await healthy(box);
  });
});

describe.skipIf(obstacle)(suite("exhausting the disk"), () => {
  test("bytes: an error for the writer, and free again when removed", async () => {
    await using box = await small({ diskBytes: 4 * MIB });
    const fill = await box.shell.run("head -c 20000000 /dev/zero > big");
    expect(fill.output).toContain("No space left on device");
    const { diskBytes } = await box.stats();
    expect(diskBytes).toBeGreaterThan(3 * MIB);
    expect(diskBytes).toBeLessThanOrEqual(4 * MIB);
    await box.shell.run("rm big");
    await healthy(box);
    expect((await box.shell.run("echo fine > small && cat small")).output).toBe("fine\n");
  });

  test("inodes", async () => {
    await using box = await small({ diskBytes: 4 * MIB });
    const { output } = await box.shell.run(
      "mkdir d; for i in $(seq 3000); do : > d/$i || break; done; echo stopped at $i; rm -r d; touch e && echo freed",
    );
    expect(output).toMatch(/No space left[\s\S]*stopped at \d{3,4}\nfreed\n$/);
    await healthy(box);
  });

  test("a file that only claims to be large costs the host nothing", async () => {
    await using box = await small();
    await box.shell.run("truncate -s 100G sparse; ls sparse");
    expect((await box.stats()).diskBytes).toBeLessThan(16 * MIB);
    expect((await box.readFile("/work/sparse")).ok).toBe(false);
    await healthy(box);
  });

  test("directories in directories in directories", async () => {
    await using box = await small();
    const program = "for (1 .. 3000) { mkdir q(d) or last; chdir q(d) or last } print q(deep)";
    expect((await asAgent(box, `cd /work; perl -e '${program}'`)).stdout).toBe("deep");
    expect((await box.fingerprint(["/work/d"]))[0]?.exists).toBe(true);
    await healthy(box);
  });

  test("a full disk does not keep the driver from reading, running and ending", async () => {
    await using box = await small({ diskBytes: 4 * MIB });
    await box.shell.run("echo kept > kept; head -c 20000000 /dev/zero > big");
    expect((await box.readFile("/work/kept")).ok).toBe(true);
    await expect(
      box.writeFiles([{ path: "/work/new", content: "x".repeat(MIB), mode: 0o644, owner: "agent" }]),
    ).rejects.toMatchObject({ code: "sandbox-disk-full" });
    await healthy(box);
  });
});

describe.skipIf(obstacle)(suite("exhausting who listens"), () => {
  const limits = { outputBytes: 64 * 1024 };

  test("a flood of output of a program", async () => {
    await using box = await sandbox({ limits });
    const result = await asAgent(box, "head -c 200000000 /dev/zero | tr '\\0' y; echo end");
    expect(result.truncated).toBe(true);
    expect(result.outputBytes).toBe(200_000_004);
    expect(result.stdout.length).toBeLessThan(70_000);
    expect(result.stdout.endsWith("end\n")).toBe(true);
    await healthy(box);
  });

  test("a flood on both streams that never ends", async () => {
    await using box = await sandbox({ limits });
    const result = await box.exec({ argv: ["bash", "-c", "yes out & yes err >&2"], timeoutMs: 700 });
    expect(result).toMatchObject({ timedOut: true, truncated: true, exitCode: null });
    expect(result.stdout.length + result.stderr.length).toBeLessThan(140_000);
    await healthy(box);
  });

  test("a flood in a session", async () => {
    await using box = await sandbox({ limits });
    const result = await box.shell.run("yes | head -c 50000000; echo end");
    expect(result).toMatchObject({ truncated: true, outputBytes: 50_000_004, exitCode: 0 });
    expect(result.output.endsWith("end\n")).toBe(true);
    await healthy(box);
  });

  test("a flood that nobody reads stops its program and not the driver", async () => {
    await using box = await sandbox({ limits });
    const before = process.memoryUsage().rss;
    const flood = await box.start({ argv: ["bash", "-c", "yes"], timeoutMs: 10_000 });
    await asAgent(box, "sleep 0.4");
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * MIB);
    await healthy(box);
    await flood.signal("SIGKILL");
    for await (const _ of flood.stdout) break;
    expect((await flood.exit).reason).not.toBe("timeout");
  });

  test("an endless line, and bytes that are no text", async () => {
    await using box = await sandbox({ limits });
    const result = await box.shell.run("head -c 3000000 /dev/urandom | tr -d '\\n'");
    expect(result.truncated).toBe(true);
    expect(result.output).not.toContain("\uD800");
    await healthy(box);
  });
});

describe.skipIf(obstacle)(suite("exhausting time"), () => {
  test("spinning on every processor is rationed over all processes together", async () => {
    await using box = await sandbox({ limits: { cpus: 0.2 } });
    const began = performance.now();
    await box.shell.run("for i in 1 2 3; do timeout 1 sh -c 'while :; do :; done' & done; wait");
    const seconds = (performance.now() - began) / 1_000;
    const { cpuMs, throttledPeriods } = await box.stats();
    expect(cpuMs).toBeLessThan(seconds * 200 + 300);
    expect(throttledPeriods).toBeGreaterThan(0);
    expect(loadavg()[0]).toBeLessThan(cpus().length * 50);
    await healthy(box);
  });

  test("a command that never ends", async () => {
    await using box = await sandbox();
    expect(await box.shell.run("while :; do :; done", { timeoutMs: 300 })).toMatchObject({
      timedOut: true,
      exitCode: null,
    });
    await healthy(box);
  });

  test("a sandbox that never ends", async () => {
    await using box = await sandbox({ limits: { lifetimeMs: 600 } });
    expect(await box.shell.run("while :; do :; done")).toMatchObject({ exitCode: null });
    expect(await box.ended).toBe("lifetime");
  });
});
