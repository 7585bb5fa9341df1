import { readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { OciDriver, type Sandbox } from "../../src/index.ts";
import { closeDriver, freshHome, obstacle, sandbox, spec, suite, traces } from "../support.ts";
import { asAgent, asRoot, healthy } from "./attack.ts";

/** Attempts to outlive a command, a clean-up, or the sandbox. */
afterAll(closeDriver);

/** Processes of the host with `mark` among their arguments. */
function livingOnHost(mark: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(mark);
    } catch {
      return false;
    }
  });
}

const remaining = async (box: Sandbox, mark: string): Promise<string> =>
  (await asRoot(box, `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep ${mark}[ ]'; :`))
    .stdout;

const daemons = {
  "a background job": (n: string) => `sleep ${n} >/dev/null 2>&1 &`,
  "a session of its own": (n: string) => `setsid sleep ${n} >/dev/null 2>&1 &`,
  "two forks and a session": (n: string) =>
    `perl -e 'exit if fork; syscall(112); exit if fork; chdir q(/); close $_ for *STDIN, *STDOUT, *STDERR; exec q(sleep), q(${n})'; sleep 0.1`,
  "deafness to signals": (n: string) =>
    `perl -e 'exit if fork; $SIG{$_} = "IGNORE" for qw(TERM INT HUP QUIT); exec q(sleep), q(${n})' >/dev/null 2>&1; sleep 0.1`,
  "a stopped process": (n: string) => `sleep ${n} >/dev/null 2>&1 & kill -STOP $!`,
};

describe.skipIf(obstacle)(suite("outliving a clean-up"), () => {
  test.each(Object.entries(daemons))("by %s", async (name, command) => {
    await using box = await sandbox();
    const mark = `${700 + name.length}.7`;
    await box.shell.run(command(mark));
    await asAgent(box, command(mark));
    expect(Number(await remaining(box, mark))).toBeGreaterThan(0);
    await box.killAgentProcesses();
    expect(await remaining(box, mark)).toBe("0\n");
    await healthy(box);
  });

  test("by a program that has been timed out", async () => {
    await using box = await sandbox();
    const script = `trap '' TERM INT; ${daemons["two forks and a session"]("733.7")}; sleep 733.7`;
    const result = await box.exec({ argv: ["bash", "-c", script], timeoutMs: 500 });
    expect(result.timedOut).toBe(true);
    expect(await remaining(box, "733.7")).toBe("0\n");
  });

  test("by replacing itself faster than it is killed", async () => {
    await using box = await sandbox({ limits: { pids: 40 } });
    const flee = "while (1) { fork and exit; select undef, undef, undef, 0.001 }";
    await box.shell.run(`for i in 1 2 3 4 5; do perl -e '${flee}' & done; sleep 0.2`);
    await box.killAgentProcesses();
    expect((await box.stats()).pids).toBe(0);
    await healthy(box);
  });
});

describe.skipIf(obstacle)(suite("outliving the sandbox"), () => {
  test("no process does, however it hides, and no trace is left", async () => {
    using home = await freshHome();
    await using driver = new OciDriver({ home: home.path });
    const box = await driver.create(spec());
    for (const command of Object.values(daemons)) await box.shell.run(command("744.7"));
    await asRoot(box, `setsid sleep 744.7 >/dev/null 2>&1 & exit`);
    expect(livingOnHost("744.7").length).toBeGreaterThan(3);
    await box.destroy();
    expect(livingOnHost("744.7")).toEqual([]);
    expect(
      traces(home.path, [box.id]).filter(
        (trace) => !trace.startsWith("directory") && !/ale-launcher|perl|mount/.test(trace),
      ),
    ).toEqual([]);
    expect(traces(home.path, [box.id]).filter((trace) => trace.includes(box.id))).toEqual([]);
  });

  test("in the middle of a fork bomb it ends as fast", async () => {
    const box = await sandbox({ limits: { pids: 64 } });
    void box.shell.run("bomb() { bomb | bomb & }; bomb").catch(() => {});
    await asRoot(box, "sleep 0.3").catch(() => {});
    const began = performance.now();
    await box.destroy();
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  test("and nothing that was left is found by the next sandbox", async () => {
    const first = await sandbox();
    await asRoot(first, "echo left | tee /tmp/left /dev/shm/left /etc/left /work/left; ln -s / /work/link");
    await first.destroy();
    await using second = await sandbox();
    expect(
      (
        await asRoot(
          second,
          "ls /tmp/left /dev/shm/left /etc/left /work/left /work/link 2>/dev/null; ls -A /dev/shm; :",
        )
      ).stdout,
    ).toBe("");
  });
});

describe.skipIf(obstacle)(suite("ending what must not end"), () => {
  test.each([
    ["kill -9 1", "kill -9 1"],
    ["kill -9 -1", "kill -9 -1"],
    ["every signal to PID 1", "for s in $(seq 1 64); do kill -$s 1; done"],
    ["every signal to everybody", "for s in 1 2 3 6 15 9; do kill -$s -1; done"],
    ["stopping everybody", "kill -STOP -1"],
  ])("%s leaves PID 1 and the next command alive", async (_, command) => {
    await using box = await sandbox();
    await asAgent(box, `timeout 1 bash -c '${command}' 2>/dev/null`);
    await box.shell.run(command, { timeoutMs: 800 });
    await healthy(box);
  });

  test("root's kill -9 -1 ends the agent's shell, and the next command says that it is a new one", async () => {
    await using box = await sandbox();
    await box.shell.run("x=1");
    await asRoot(box, "kill -9 -1");
    expect(await box.shell.run("test -v x || echo none")).toMatchObject({
      output: "none\n",
      shellRestarted: true,
    });
    await healthy(box);
  });
});
