import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { afterAll, describe, expect, test } from "vitest";
import { defaultHome } from "../src/index.ts";
import { closeDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

describe.skipIf(obstacle)(suite("a sandbox's walls"), () => {
  test("no process has privileges to gain: no_new_privs, no capabilities for the agent, a filter on all", async () => {
    await using box = await sandbox();
    const command = "grep -E '^(NoNewPrivs|Seccomp|CapEff|CapPrm|CapBnd|CapInh|CapAmb):' /proc/self/status";
    const agent =
      "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    expect((await box.shell.run(command)).output).toBe(agent);
    expect((await box.exec({ argv: ["bash", "-c", command], user: "agent" })).stdout).toBe(agent);
    const root = (await box.exec({ argv: ["bash", "-c", command], user: "root" })).stdout;
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP and nothing that reaches the host.
    expect(root).toContain("CapEff:\t00000000000001fb\n");
    expect(root).toContain("NoNewPrivs:\t1\nSeccomp:\t2\n");
  });

  test("set-user-id programs give nothing", async () => {
    await using box = await sandbox();
    await box.exec({
      argv: ["bash", "-c", "cp /usr/bin/id /usr/bin/suid && chmod 4755 /usr/bin/suid"],
      user: "root",
    });
    expect((await box.shell.run("suid -u")).output).toBe("1000\n");
  });

  test("the agent cannot signal, trace, read or reprioritise PID 1", async () => {
    await using box = await sandbox();
    const result = await box.shell.run(
      "kill -9 1; kill -STOP 1; kill -9 -1; cat /proc/1/environ; ls /proc/1/fd /proc/1/cwd; echo 1000 > /proc/1/oom_score_adj; cat /proc/1/mem",
    );
    expect(result.output).not.toMatch(/^\d+ ->/m);
    expect((await box.exec({ argv: ["cat", "/proc/1/oom_score_adj"], user: "root" })).stdout).toBe("0\n");
    expect((await box.shell.run("ps -o args= -p 1; cat /proc/self/oom_score_adj")).output).toBe(
      "init\n500\n",
    );
  });

  test("what is on the host is neither visible nor named", async () => {
    await using box = await sandbox();
    const { output } = await box.shell.run(
      "cat /proc/mounts /proc/self/mountinfo /proc/self/cgroup; hostname; ls -a / /root /home",
    );
    expect(output).not.toContain(process.cwd());
    expect(output).not.toContain(defaultHome());
    expect(output).not.toContain(box.id);
    if (hostname() !== "sandbox") expect(output).not.toContain(`\n${hostname()}\n`);
    const { stdout } = await box.exec({
      argv: ["bash", "-c", `ls ${process.cwd()} ${import.meta.dirname}; ps -e -o pid= | wc -l`],
      user: "root",
    });
    expect(stdout).toBe("5\n");
  });

  test("there is no network but loopback, and that works", async () => {
    await using box = await sandbox();
    const { output } = await box.shell.run(
      "tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/route | tail -n +2",
    );
    expect(output.trim()).toBe("lo");
    const outside = await box.shell.run("exec 3<>/dev/tcp/192.0.2.1/80", { timeoutMs: 5_000 });
    expect(outside.exitCode).toBe(1);
    expect(outside.output).toContain("Network is unreachable");
    const serve = `perl -e 'use Socket; socket S, AF_INET, SOCK_STREAM, 0; bind S, sockaddr_in(8080, INADDR_LOOPBACK); listen S, 1; accept C, S; print C "served\\n"' &`;
    await box.shell.run(serve);
    expect((await box.shell.run("sleep 0.5; cat < /dev/tcp/127.0.0.1/8080")).output).toBe("served\n");
  });

  test.each([
    ["mount a file system", "165, q(none), q(/mnt), q(tmpfs), 0, 0"],
    ["unmount one", "166, q(/proc), 2"],
    ["make a user namespace", "272, 0x10000000"],
    ["make a network namespace by clone", "56, 0x40000000 | 17, 0, 0, 0, 0"],
    ["enter a namespace", "308, 0, 0"],
    ["load a BPF program", "321, 0, 0, 0"],
    ["open a performance counter", "298, 0, 0, 0, 0, 0"],
    ["use io_uring", "425, 1, 0"],
    ["use the kernel's keyring", "250, 0, 0"],
    ["load a module", "175, 0, 0, q()"],
    ["change the root", "155, q(/), q(/)"],
    ["open a packet socket", "41, 17, 3, 0"],
    ["open a raw socket", "41, 2, 3, 1"],
    ["read another process's memory", "310, 1, 0, 0, 0, 0, 0"],
    ["set the clock", "164, 0, 0"],
    ["reboot", "169, 0xfee1dead, 672274793, 0, 0"],
    ["make a device node", "133, q(/tmp/sda), 060600, 0x800"],
  ])("not even root inside can %s", async (_, call) => {
    if (process.arch !== "x64") return;
    await using box = await sandbox();
    const argv = [
      "perl",
      "-e",
      `sub call { my @a = @_; syscall($a[0], @a[1..$#a]) } my $r = call(${call}); print $r == -1 && grep({ $!{$_} } qw(EPERM ENOSYS EAFNOSUPPORT)) ? "refused\\n" : "result $r: $!\\n"`,
    ];
    expect((await box.exec({ argv, user: "root" })).stdout).toBe("refused\n");
    expect((await box.exec({ argv, user: "agent" })).stdout).toBe("refused\n");
  });

  test("the kernel's knobs are read-only or hidden, for root too", async () => {
    await using box = await sandbox();
    const script =
      "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /sys/kernel/uevent_helper; do echo x > $f && echo written $f; done; cat /proc/kcore | head -c 1; cat /proc/kallsyms /proc/keys /proc/timer_list | head -c 1; ls /sys/firmware /proc/acpi; ls -A /sys/fs/cgroup";
    expect((await box.exec({ argv: ["bash", "-c", script], user: "root" })).stdout).toBe(
      "/proc/acpi:\n\n/sys/firmware:\n",
    );
  });

  test("devices are the harmless ones, and no other can be used", async () => {
    await using box = await sandbox();
    const { output } = await box.shell.run(
      "cd /dev; ls -F | grep -v -e '/$' -e '@$' | tr '\\n' ' '; cat /dev/sda /dev/vda /dev/mem",
    );
    expect(output).toMatch(/^full null random tty urandom zero /);
  });
});

describe.skipIf(obstacle)(suite("a sandbox's limits"), () => {
  test("a fork bomb stays in its bounds, and programs of the driver run after it is cleared", async () => {
    await using box = await sandbox({ limits: { pids: 32 } });
    await box.shell.run("bomb() { bomb | bomb & }; bomb", { timeoutMs: 2_000 });
    await box.shell.run("sleep 1", { timeoutMs: 3_000 });
    await box.killAgentProcesses();
    const { stdout } = await box.exec({
      argv: ["bash", "-c", "echo alive; ls /proc | grep -c '^[0-9]'"],
      user: "root",
    });
    expect(stdout).toMatch(/^alive\n[1-5]\n$/);
    expect((await box.shell.run("echo back")).output).toBe("back\n");
  });

  test("no more processes live than allowed", async () => {
    await using box = await sandbox({ limits: { pids: 16 } });
    await box.shell.run("for i in {1..15}; do sleep 60 & done");
    const result = await box.exec({ argv: ["true"], user: "root" });
    expect(result.exitCode).toBeNull();
    expect(result.stderr).toContain("cannot start a process");
    await box.killAgentProcesses();
    expect((await box.exec({ argv: ["true"], user: "root" })).exitCode).toBe(0);
  });

  test("a flood of zombies is reaped", async () => {
    await using box = await sandbox({ limits: { pids: 24 } });
    await box.shell.run(
      "for i in $(seq 200); do (true & exec true) ; setsid sh -c 'sleep 0.01 & exit' ; done",
    );
    await box.shell.run("sleep 0.3");
    expect((await box.shell.run("ps -e -o stat= | grep -c Z")).output).toBe("0\n");
  });

  test("a memory hog is killed and the sandbox lives on", async () => {
    await using box = await sandbox({ limits: { memoryBytes: 64 * 2 ** 20, diskBytes: 16 * 2 ** 20 } });
    const result = await box.shell.run("perl -e '$x = q(x) x (1 << 30); print length $x'");
    expect(result.exitCode).toBe(137);
    expect((await box.shell.run("echo alive")).output).toBe("alive\n");
  });

  test("many hogs at once do not take PID 1 with them", async () => {
    await using box = await sandbox({ limits: { memoryBytes: 64 * 2 ** 20, diskBytes: 16 * 2 ** 20 } });
    await box.shell.run("for i in $(seq 12); do perl -e '$x = q(x) x (40 << 20); sleep 2' & done; wait");
    expect((await box.exec({ argv: ["echo", "alive"], user: "root" })).stdout).toBe("alive\n");
    expect((await box.shell.run("echo alive")).output).toBe("alive\n");
  });

  test("a full disk is an error for the writer, and its removal frees it", async () => {
    await using box = await sandbox({ limits: { diskBytes: 4 * 2 ** 20 } });
    const fill = await box.shell.run(
      "head -c 20000000 /dev/zero > big; echo $?; cp big /tmp/more; df -k / | tail -1",
    );
    expect(fill.output).toContain("No space left on device");
    expect((await box.shell.run("rm big /tmp/more; echo fine > small && cat small")).output).toBe("fine\n");
  });

  test("so is a disk full of empty files", async () => {
    await using box = await sandbox({ limits: { diskBytes: 4 * 2 ** 20 } });
    const { output } = await box.shell.run(
      "mkdir d; for i in $(seq 3000); do : > d/$i || break; done; echo stopped at $i; rm -r d; touch e && echo freed",
    );
    expect(output).toMatch(/No space left[\s\S]*stopped at \d{3,4}\nfreed\n$/);
  });

  test("shared memory has its bound too", async () => {
    await using box = await sandbox({ limits: { diskBytes: 4 * 2 ** 20 } });
    expect((await box.shell.run("head -c 20000000 /dev/zero > /dev/shm/x")).output).toContain(
      "No space left",
    );
  });

  test("processor time is rationed over all processes together", async () => {
    await using box = await sandbox({ limits: { cpus: 0.2 } });
    const spin = "for i in 1 2 3; do timeout 1.5 sh -c 'while :; do :; done' & done; wait; times | tail -1";
    const began = performance.now();
    const { output } = await box.shell.run(spin);
    const seconds = (performance.now() - began) / 1_000;
    const [, minutes, spent] = /(\d+)m([\d.]+)s/.exec(output) ?? [];
    expect(Number(minutes) * 60 + Number(spent)).toBeLessThan(seconds * 0.2 + 0.3);
  });

  test("files larger than memory allows live on a disk of their own", async () => {
    await using box = await sandbox({ limits: { memoryBytes: 64 * 2 ** 20, diskBytes: 256 * 2 ** 20 } });
    const { output } = await box.shell.run(
      "head -c 150000000 /dev/zero > big && wc -c < big; head -c 200000000 /dev/zero > more",
    );
    expect(output).toMatch(/^150000000\n.*No space left/);
  });

  test("the lifetime ends a sandbox however busy it is", async () => {
    await using box = await sandbox({ limits: { lifetimeMs: 700 } });
    expect(await box.shell.run("while :; do :; done")).toMatchObject({ exitCode: null });
    expect((await box.exec({ argv: ["true"], user: "root" })).exitCode).toBeNull();
  });

  test("the kernel agrees about the limits", async () => {
    await using box = await sandbox({
      limits: { memoryBytes: 64 * 2 ** 20, diskBytes: 2 ** 20, pids: 20, cpus: 0.5 },
    });
    const v1 = `/sys/fs/cgroup/memory/ale/${box.id}/memory.limit_in_bytes`;
    const v2 = `/sys/fs/cgroup/ale/${box.id}/memory.max`;
    expect(Number(readFileSync(existsSync(v1) ? v1 : v2, "utf8"))).toBe(64 * 2 ** 20);
  });
});
