import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { afterAll, describe, expect, test } from "vitest";
import { defaultHome } from "../../src/index.ts";
import { closeDriver, obstacle, sandbox, suite } from "../support.ts";

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
});

describe.skipIf(obstacle)(suite("a sandbox's limits"), () => {
  test("no more processes live than allowed", async () => {
    await using box = await sandbox({ limits: { pids: 16 } });
    await box.shell.run("for i in {1..15}; do sleep 60 & done");
    const result = await box.exec({ argv: ["true"], user: "root" });
    expect(result.exitCode).toBeNull();
    expect(result.stderr).toContain("cannot start a process");
    await box.killAgentProcesses();
    expect((await box.exec({ argv: ["true"], user: "root" })).exitCode).toBe(0);
  });

  test("files larger than memory allows live on a disk of their own", async () => {
    await using box = await sandbox({ limits: { memoryBytes: 64 * 2 ** 20, diskBytes: 256 * 2 ** 20 } });
    const { output } = await box.shell.run(
      "head -c 150000000 /dev/zero > big && wc -c < big; head -c 200000000 /dev/zero > more",
    );
    expect(output).toMatch(/^150000000\n.*No space left/);
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
