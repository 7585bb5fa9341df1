import { spawn } from "node:child_process";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { defaultHome, type Sandbox } from "../../src/index.ts";
import { closeDriver, obstacle, sandbox, suite } from "../support.ts";
import { asAgent, asRoot, attempt, type Canaries, healthy, plantCanaries } from "./attack.ts";

/** Attempts to reach what is not the sandbox's. One sandbox takes them all, and has to be well after each. */
describe.skipIf(obstacle)(suite("a way out"), () => {
  let box: Sandbox;
  let canaries: Canaries;

  beforeAll(async () => {
    canaries = plantCanaries();
    box = await sandbox();
  });
  afterEach(async () => {
    canaries.check();
    await healthy(box);
  });
  afterAll(async () => {
    canaries[Symbol.dispose]();
    await closeDriver();
  });

  const namespaces = { mnt: 0x20000, cgroup: 0x2000000, uts: 0x4000000, ipc: 0x8000000 };
  const more = { user: 0x10000000, pid: 0x20000000, net: 0x40000000, time: 0x80 };

  test.skipIf(process.arch !== "x64").each([
    ["mounts", "165, q(none), q(/mnt), q(tmpfs), 0, 0"],
    ["a bind mount", "165, q(/etc), q(/mnt), 0, 4096, 0"],
    ["unmounting", "166, q(/proc), 2"],
    ["the new mount calls", "430, q(tmpfs), 0"],
    ["a copy of a mount", "428, -100, q(/), 1"],
    ["moving a mount", "429, -100, q(/proc), -100, q(/mnt), 0"],
    ["changing a mount", "442, -100, q(/), 0, q(), 32"],
    ["another root", "155, q(/), q(/)"],
    ["chroot", "161, q(/proc)"],
    ...Object.entries({ ...namespaces, ...more }).map(([name, flag]) => [
      `a new ${name} namespace`,
      `272, ${flag}`,
    ]),
    ...Object.entries({ ...namespaces, ...more })
      .filter(([name]) => name !== "time")
      .map(([name, flag]) => [`a child in a new ${name} namespace`, `56, ${flag} | 17, 0, 0, 0, 0`]),
    [
      "a child by clone3, whose flags no filter can see",
      "435, pack(q(Q11), 0x10000000, (0) x 3, 17, (0) x 6), 88",
    ],
    ["entering a namespace", "308, 0, 0"],
    ["BPF programs", "321, 5, q(x) x 64, 64"],
    ["performance counters", "298, q(x) x 128, 0, -1, -1, 0"],
    ["io_uring", "425, 1, q(x) x 128"],
    ["io_uring, submitting", "426, 0, 1, 0, 0, 0, 0"],
    ["the keyring", "250, 0, -3, 1"],
    ["adding a key", "248, q(user), q(x), q(y), 1, -3"],
    ["asking for a key", "249, q(user), q(x), 0, 0"],
    ["handling page faults", "323, 0"],
    ["a module", "175, q(x), 1, q()"],
    ["a module from a file", "313, 0, q(), 0"],
    ["removing a module", "176, q(overlay), 0"],
    ["another kernel", "246, 0, 0, 0, 0"],
    ["another kernel from a file", "320, 0, 0, 0, q(), 0"],
    ["file handles", "304, -100, q(x) x 32, 0"],
    ["the handle of a file", "303, -100, q(/), q(x) x 128, q(x) x 8, 0"],
    ["reading another's memory", "310, 1, 0, 0, 0, 0, 0"],
    ["writing another's memory", "311, 1, 0, 0, 0, 0, 0"],
    ["another's descriptor", "438, 0, 0, 0"],
    ["comparing processes", "312, 1, 1, 0, 0, 0"],
    ["quotas", "179, 0x800007, q(/), 0, 0"],
    ["swap", "167, q(/x), 0"],
    ["a reboot", "169, 0xfee1dead, 672274793, 0x1234567, 0"],
    ["the clock", "164, q(x) x 16, 0"],
    ["the clock, by another call", "227, 0, q(x) x 16"],
    ["adjusting the clock", "159, q(x) x 256"],
    ["the host's name", "170, q(owned), 5"],
    ["the kernel's log", "103, 3, q(x) x 64, 64"],
    ["accounting", "163, q(/tmp/acct)"],
    ["ports of the machine", "172, 3"],
    ["one port of the machine", "173, 0x80, 1, 1"],
    ["watching all of a file system", "300, 0, 0"],
    ["memory that can be written and run by default", "135, 0x0400000"],
    ["moving another's pages", "279, 1, 0, 0, 0, 0, 0"],
    ["hanging up the terminal", "153"],
    ["a packet socket", "41, 17, 3, 0x300"],
    ["a raw socket", "41, 2, 3, 1"],
    ["a raw socket of IPv6", "41, 10, 3, 58"],
    ["a socket to the hypervisor", "41, 40, 1, 0"],
    ["the kernel's cryptography", "41, 38, 5, 0"],
    ["keys for IPsec", "41, 15, 3, 2"],
    ["express data path", "41, 44, 3, 0"],
    ["Bluetooth", "41, 31, 3, 1"],
    ["TIPC", "41, 30, 5, 0"],
    ["memory as a device", "133, qq(/tmp/mem), 020666, 0x101"],
    ["a disk as a device", "133, qq(/tmp/disk), 060666, 0x800"],
    ["a loop device", "259, -100, qq(/tmp/loop), 060666, 0x700"],
  ])("through %s is refused, to root and to the agent", async (_, call) => {
    for (const user of ["root", "agent"])
      expect((await box.exec({ argv: attempt(call!), user })).stdout).toBe("refused");
  });

  test("through the kernel's knobs: all are read-only, hidden, or not there", async () => {
    const knobs = [
      "/proc/sys/kernel/core_pattern",
      "/proc/sys/kernel/modprobe",
      "/proc/sys/kernel/hostname",
      "/proc/sys/vm/drop_caches",
      "/proc/sys/vm/panic_on_oom",
      "/proc/sys/fs/binfmt_misc/register",
      "/proc/sys/net/ipv4/ip_forward",
      "/proc/sysrq-trigger",
      "/proc/irq/default_smp_affinity",
      "/sys/kernel/uevent_helper",
      "/sys/kernel/mm/transparent_hugepage/enabled",
      "/sys/power/state",
      "/sys/class/net/lo/mtu",
    ];
    const { stdout } = await asRoot(
      box,
      `for f in ${knobs.join(" ")}; do echo 1 2>&- > $f && echo written $f; done 2>/dev/null; :`,
    );
    expect(stdout).toBe("");
  });

  test("through a control group's release agent: there is no control group to be found", async () => {
    const script =
      "ls -A /sys/fs/cgroup; ls -R /sys /run /dev | grep -e release_agent -e cgroup.procs; grep -c cgroup /proc/mounts; cut -d: -f3 /proc/self/cgroup | sort -u";
    expect((await asRoot(box, script)).stdout).toBe("0\n/\n");
  });

  test("through the kernel's memory and log: what shows them is empty", async () => {
    const script =
      "for f in /proc/kcore /proc/kmsg /proc/kallsyms /proc/keys /proc/timer_list /proc/sched_debug /proc/config.gz; do timeout 1 head -c 16 $f; done 2>/dev/null; dmesg 2>/dev/null; ls /proc/acpi /proc/scsi /sys/firmware /sys/kernel/debug /sys/kernel/tracing 2>/dev/null | grep -v ':$' | grep .";
    expect((await asRoot(box, script)).stdout).toBe("");
  });

  test("through device nodes: there are six harmless ones", async () => {
    const script =
      "for f in /dev/*; do if test ! -L $f -a '(' -c $f -o -b $f ')'; then printf '%s ' $f; fi; done; cd /tmp; for n in 'c 1 1' 'c 1 11' 'b 7 0' 'b 8 0' 'c 10 237'; do mknod x$RANDOM $n 2>/dev/null && echo made; done; cat /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/loop0 /dev/fuse /dev/kvm 2>/dev/null | head -c 1";
    expect((await asRoot(box, script)).stdout).toBe(
      "/dev/full /dev/null /dev/random /dev/tty /dev/urandom /dev/zero ",
    );
  });

  test("through PID 1: its memory, root, descriptors and environment are closed, to root as well", async () => {
    const script =
      "cat /proc/1/environ; head -c 1 /proc/1/mem; ls /proc/1/root /proc/1/cwd; cat /proc/1/fd/* /proc/1/task/1/fd/*; readlink /proc/1/exe /proc/1/ns/mnt /proc/1/fd/*; cat /proc/1/maps /proc/1/stack /proc/1/syscall";
    for (const run of [asRoot, asAgent]) {
      const { stdout } = await run(box, `{ ${script}; } 2>/dev/null; :`);
      expect(stdout).toBe("");
    }
  });

  test.skipIf(process.arch !== "x64")("by tracing PID 1, or signalling it", async () => {
    // PTRACE_ATTACH and PTRACE_SEIZE.
    for (const request of [16, 0x4206])
      for (const user of ["root", "agent"])
        expect((await box.exec({ argv: attempt(`101, ${request}, 1, 0, 0`), user })).stdout).toBe("refused");
    await asRoot(box, "kill -9 1; kill -STOP 1; kill -SEGV 1");
    await asAgent(box, "kill -9 1; kill -TERM 1");
  });

  test("by making the kernel prefer PID 1 when memory runs out", async () => {
    await asAgent(box, "echo 1000 > /proc/1/oom_score_adj");
    await asAgent(box, "echo -1000 > /proc/self/oom_score_adj");
    const { stdout } = await asRoot(box, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj");
    expect(stdout).toBe("0\n500\n");
  });

  test("by signalling or seeing a process of the host", async () => {
    const outsider = spawn("sleep", ["30"], { stdio: "ignore" });
    try {
      const { stdout } = await asRoot(
        box,
        `kill -9 ${outsider.pid} 2>/dev/null && echo kil''led; ls -d /proc/${outsider.pid} 2>/dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' ' '`,
      );
      expect(stdout).not.toContain("killed");
      expect(stdout).not.toContain("sleep 30");
      expect(outsider.exitCode).toBeNull();
      expect(outsider.signalCode).toBeNull();
    } finally {
      outsider.kill();
    }
  });

  test("by set-user-id programs, which give nothing", async () => {
    await asRoot(box, "cp /usr/bin/id /usr/bin/perl /var/tmp; chmod 6755 /var/tmp/id /var/tmp/perl");
    expect((await asAgent(box, "/var/tmp/id -u; /var/tmp/perl -e 'print $>'")).stdout).toBe("1000\n1000");
  });

  test.skipIf(process.arch !== "x64")(
    "by capabilities of a file, which root cannot give and the agent would not get",
    async () => {
      // A version 2 capability set with every capability permitted and effective.
      const value = "pack(q(L5), 0x02000001, 0xffffffff, 0, 0xffffffff, 0)";
      const give = attempt(`188, q(/var/tmp/able), q(security.capability), ${value}, 20, 0`);
      await asRoot(box, "cp /usr/bin/cat /var/tmp/able");
      expect((await box.exec({ argv: give, user: "root" })).stdout).toBe("refused");
      expect((await asAgent(box, "/var/tmp/able /proc/self/status | grep CapEff")).stdout).toBe(
        "CapEff:\t0000000000000000\n",
      );
    },
  );

  test("by paths of the host: none is named, none leads anywhere", async () => {
    const told = await asRoot(
      box,
      "cat /proc/mounts /proc/self/mountinfo /proc/1/cgroup /proc/self/cgroup /proc/cmdline; env; ls -la / /mnt /tmp",
    );
    for (const path of [defaultHome(), process.cwd(), canaries.directory])
      expect(told.stdout).not.toContain(path);
    const { stdout } = await asRoot(
      box,
      `cat ${canaries.directory}/secret /proc/self/root${canaries.directory}/secret /../../..${canaries.directory}/secret; echo x > ${canaries.directory}/planted`,
    );
    expect(stdout).toBe("");
  });

  test("by the directory from before a change of root: every open descriptor leads inside", async () => {
    const script = `for pid in $(ls /proc | grep '^[0-9]'); do for fd in /proc/$pid/fd/* /proc/$pid/cwd /proc/$pid/root; do cat $fd/../../../../..${canaries.directory}/secret; done; done 2>/dev/null; :`;
    expect((await asRoot(box, script)).stdout).toBe("");
  });

  test("over the network: there is none but loopback, and no interface can be brought up", async () => {
    const script = `tail -n +3 /proc/net/dev | cut -d: -f1; tail -n +2 /proc/net/route; for a in 127.0.0.1/22 10.0.0.1/80 169.254.169.254/80 192.0.2.1/443; do timeout 2 bash -c "exec 3<>/dev/tcp/$a" 2>/dev/null && echo reached $a; done; ip link add x type dummy 2>/dev/null && echo linked; :`;
    expect((await asRoot(box, script)).stdout.trim()).toBe("lo");
  });

  test("to sockets of the host by abstract names", async () => {
    const { createServer } = await import("node:net");
    const server = createServer((socket) => socket.end("host"));
    const name = `ale-canary-${process.pid}`;
    await new Promise<void>((resolve) => server.listen(`\0${name}`, () => resolve()));
    try {
      const program = `use Socket; socket S, AF_UNIX, SOCK_STREAM, 0; print connect(S, pack(q(S a*), 1, qq(\\0${name}))) ? "reached" : "refused"`;
      expect((await box.exec({ argv: ["perl", "-e", program], user: "root" })).stdout).toBe("refused");
    } finally {
      server.close();
    }
  });

  test("by input for a terminal of somebody else", async () => {
    const program =
      "for (glob q(/dev/pts/*)) { next if /ptmx/; open(my $t, q(+<), $_) or next; my $c = q(x); (ioctl($t, 0x5412, $c) || syscall(16, fileno $t, 0x100005412, $c) == 0) and print qq(typed into $_) }";
    expect((await box.exec({ argv: ["perl", "-e", program], user: "root" })).stdout).toBe("");
  });

  test("by a wait for more privileges: whoever starts, starts with none to gain", async () => {
    const script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    const expected = "NoNewPrivs:\t1\nSeccomp:\t2\n";
    for (const run of [asRoot, asAgent]) expect((await run(box, script)).stdout).toBe(expected);
    expect((await box.shell.run(script)).output).toBe(expected);
    await using session = await openSession(box);
    expect((await session.run(script)).output).toBe(expected);
  });
});

async function openSession(box: Sandbox) {
  const session = await box.openSession();
  return Object.assign(session, { [Symbol.asyncDispose]: () => session.close() });
}
