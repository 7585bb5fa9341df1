import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { waiterProgram } from "../src/inside/waiter.ts";
import type { OciSandbox } from "../src/oci/oci-sandbox.ts";
import { closeDriver, isOtherDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

/** Resolves when a command has been heard to begin. */
function begun(): { onOutput: (chunk: Uint8Array) => void; heard: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { onOutput: () => resolve(), heard: promise };
}

describe.skipIf(obstacle)(suite("sessions"), () => {
  test("are independent of each other and run at the same time", async () => {
    await using box = await sandbox();
    const other = await box.openSession({ cwd: "/tmp", env: { WHERE: "other" } });
    const third = await box.openSession({ user: "root" });
    const began = performance.now();
    const results = await Promise.all([
      box.shell.run("x=1; sleep 0.4; echo $x $WHERE; pwd"),
      other.run("x=2; sleep 0.4; echo $x $WHERE; pwd"),
      third.run("x=3; sleep 0.4; echo $x; id -un"),
    ]);
    expect(results.map((result) => result.output)).toEqual(["1\n/work\n", "2 other\n/tmp\n", "3\nroot\n"]);
    expect(performance.now() - began).toBeLessThan(1_100);
    expect(new Set([box.shell.id, other.id, third.id]).size).toBe(3);
  });

  test.each([
    ["a directory that is not there", { cwd: "/no/such/directory" }, "session-failed"],
    ["a user that is not there", { user: "nobody-knows" }, "user-unknown"],
    ["a NUL in its environment", { env: { A: "a\0b" } }, "nul-in-command"],
  ])("are refused with %s", async (_, options, code) => {
    await using box = await sandbox();
    await expect(box.openSession(options)).rejects.toMatchObject({ code });
    expect((await box.shell.run("echo well")).output).toBe("well\n");
  });

  test("cost memory only when they are used, or made ready before", async () => {
    await using box = (await sandbox()) as OciSandbox;
    const processes = (): string[] =>
      readFileSync(
        `/sys/fs/cgroup/${existsSync("/sys/fs/cgroup/pids") ? "pids/" : ""}ale/${box.id}/cgroup.procs`,
        "utf8",
      )
        .trim()
        .split("\n");
    const [init, ...others] = processes();
    expect(others).toEqual([]);
    const dirty = Number(
      /^Private_Dirty:\s+(\d+)/m.exec(readFileSync(`/proc/${init}/smaps_rollup`, "utf8"))?.[1],
    );
    expect(dirty).toBeLessThan(waiterProgram() === undefined ? 700 : 64);
    await box.warm();
    expect(processes().length).toBe(2);
    expect((await box.shell.run("echo here")).output).toBe("here\n");
    await box.warm();
    expect(processes().length).toBe(2);
  });

  test("give output as it comes, and the result as without", async () => {
    await using box = await sandbox({ limits: { outputBytes: 1_000 } });
    const heard: string[] = [];
    const first = begun();
    const onOutput = (chunk: Uint8Array): void => {
      heard.push(String(chunk));
      first.onOutput(chunk);
    };
    const running = box.shell.run("echo one; sleep 0.3; echo two >&2; (exit 5)", { onOutput });
    await first.heard;
    expect(heard.join("")).toBe("one\n");
    expect(await running).toMatchObject({ exitCode: 5, output: "one\ntwo\n", outputBytes: 8 });
    expect(heard.join("")).toBe("one\ntwo\n");
    heard.length = 0;
    const flood = await box.shell.run("seq 300000", { onOutput });
    expect(flood).toMatchObject({ truncated: true, outputBytes: 1_988_895 });
    expect(heard.join("").length).toBe(1_988_895);
    expect(heard.join("").endsWith("\n299999\n300000\n")).toBe(true);
  });

  test("end with what runs in them when closed, leave what was detached, and are closed twice as well as once", async () => {
    await using box = await sandbox();
    const session = await box.openSession();
    await session.run("sleep 91 & nohup sleep 92 > /dev/null 2>&1 & disown; setsid sleep 93 &");
    const running = session.run("sleep 94");
    await sleep(100);
    await session.close();
    await session.close();
    expect((await running).exitCode).toBeNull();
    expect((await box.shell.run("sleep 0.1; ps -e -o args= | grep '[s]leep 9' | sort")).output).toBe(
      "sleep 92\nsleep 93\n",
    );
    await expect(session.run("true")).rejects.toMatchObject({ code: "session-closed" });
    expect((await box.shell.run("echo well")).output).toBe("well\n");
  });

  test.each([
    ["sleep", "sleep 60"],
    ["a loop of the shell itself", "while :; do :; done"],
    ["a loop of programs", "while :; do sleep 1; done"],
    ["a pipeline", "yes | cat > /dev/null"],
    ["a builtin that waits", "wait $!"],
    ["a subshell", "(while :; do sleep 1; done)"],
    ["command substitution", "x=$(sleep 60)"],
  ])("survive Ctrl-C in %s with their state", async (_, command) => {
    await using box = await sandbox();
    await box.shell.run("cd /tmp; kept=yes; sleep 95 &");
    const { onOutput, heard } = begun();
    const running = box.shell.run(`echo began; ${command}; echo not reached`, { onOutput });
    await heard;
    await sleep(30);
    await box.shell.interrupt();
    const result = await running;
    expect(result).toMatchObject({
      interrupted: true,
      timedOut: false,
      shellRestarted: false,
      exitCode: 130,
    });
    expect(result.output).toBe("began\n");
    expect((await box.shell.run("pwd; echo $kept; jobs | wc -l")).output).toBe("/tmp\nyes\n1\n");
  });

  test("let a program answer Ctrl-C in its own way", async () => {
    await using box = await sandbox();
    const { onOutput, heard } = begun();
    const program =
      "perl -e '$| = 1; $SIG{INT} = sub { print qq(tidied\\n); exit 7 }; print qq(ready\\n); sleep 60'";
    const running = box.shell.run(program, { onOutput });
    await heard;
    await box.shell.interrupt();
    expect(await running).toMatchObject({ interrupted: true, exitCode: 7, output: "ready\ntidied\n" });
  });

  test("end a program that ignores Ctrl-C after a grace, and keep their state", async () => {
    await using box = await sandbox();
    await box.shell.run("kept=yes");
    const { onOutput, heard } = begun();
    const running = box.shell.run("(trap '' INT TERM; echo on; while :; do sleep 60; done)", { onOutput });
    await heard;
    const began = performance.now();
    await box.shell.interrupt();
    expect(await running).toMatchObject({ interrupted: true, exitCode: null, shellRestarted: false });
    expect(performance.now() - began).toBeLessThan(3_000);
    expect((await box.shell.run("echo $kept; ps -e -o args= | grep -c '[s]leep 60'")).output).toBe(
      "yes\n0\n",
    );
  });

  test("are interrupted in the very moment in which a command begins or ends, and never lose track", async () => {
    await using box = await sandbox();
    for (let round = 0; round < 40; round++) {
      const running = box.shell.run(`for i in {1..${round * 20}}; do :; done; echo ${round}`);
      if (round % 2 === 0) await sleep(round % 5);
      await box.shell.interrupt();
      const result = await running;
      if (!result.interrupted) expect(result.output).toBe(`${round}\n`);
      expect((await box.shell.run(`echo next ${round}`)).output).toBe(`next ${round}\n`);
    }
    expect(await box.shell.run("echo end")).toMatchObject({ output: "end\n", shellRestarted: false });
  });

  test("are not disturbed by an interrupt when nothing runs", async () => {
    await using box = await sandbox();
    await box.shell.interrupt();
    await box.shell.run("x=1");
    await box.shell.interrupt();
    expect((await box.shell.run("echo $x")).output).toBe("1\n");
  });

  test("manage jobs in the background", async () => {
    await using box = await sandbox();
    const { shell } = box;
    const began = performance.now();
    await shell.run("sleep 100 & first=$!");
    await shell.run("(sleep 0.2; exit 9) & second=$!");
    expect(performance.now() - began).toBeLessThan(1_000);
    expect((await shell.run("jobs")).output).toMatch(/^\[1\][-+ ]*Running +sleep 100 &\n\[2\]/);
    expect((await shell.run("wait $second")).exitCode).toBe(9);
    expect((await shell.run("kill -0 $first && echo alive")).output).toBe("alive\n");
    await shell.run("kill %1; wait $first");
    expect((await shell.run("kill -0 $first")).exitCode).toBe(1);
    await shell.run("nohup sleep 96 > /dev/null 2>&1 & disown");
    expect((await shell.run("jobs; sleep 0.2; pgrep -x -f 'sleep 96' | wc -l")).output).toBe("1\n");
  });

  test("keep jobs of other sessions when one of theirs runs out of time", async () => {
    await using box = await sandbox();
    const other = await box.openSession();
    const running = box.shell.run("sleep 60", { timeoutMs: 400 });
    await other.run("(sleep 97 &); sleep 98 &");
    expect(await running).toMatchObject({ timedOut: true });
    expect((await other.run("ps -e -o args= | grep '[s]leep 9' | sort")).output).toBe("sleep 97\nsleep 98\n");
  });

  test("do not take what a program prints or writes anywhere for the end of a command", async () => {
    await using box = await sandbox();
    const script = `for fd in /proc/[0-9]*/fd/*; do timeout 0.05 sh -c "printf '0 %s\\n' deadbeefdeadbeefdeadbeef > $fd" 2>/dev/null; done; echo real; (exit 3)`;
    expect(await box.shell.run(script)).toMatchObject({ exitCode: 3 });
    expect((await box.shell.run("echo next")).output).toContain("next\n");
  });
});

describe.skipIf(obstacle || isOtherDriver())(suite("the state of shells"), () => {
  test("is carried to another shell: directory, environment, functions, aliases, options, status", async () => {
    await using box = (await sandbox({ env: { GONE: "1", KEPT: "spec" } })) as OciSandbox;
    const other = await box.openSession({ user: "root", cwd: "/tmp" });
    await box.shell.run(`mkdir -p "/tmp/a dir"; cd "/tmp/a dir"; unset GONE; export KEPT=$'new\\nline "q" \\377' SHINY=é
      greet() { echo "hello $1"; ls > /dev/null; }; export -f greet; alias ls='ls -a'; set -u; shopt -s nullglob; umask 027; local=lost`);
    await other.run("cd /var; export WHO=root");
    await box.shell.run("(exit 42)");
    const states = await box.captureShells();
    expect(states.map(({ id, user, cwd }) => ({ id, user, cwd }))).toEqual([
      { id: box.shell.id, user: undefined, cwd: "/tmp/a dir" },
      { id: other.id, user: "root", cwd: "/var" },
    ]);
    // As after a restart: every process is gone.
    await box.killAgentProcesses();
    box.resume(box.container, JSON.parse(JSON.stringify(states)));
    const look = `echo $?; pwd; printf '%s|' "$KEPT" "$SHINY" "\${GONE-unset}" "\${local-unset}" | od -An -c; bash -c 'greet you'; alias ls; shopt -q nullglob && echo nullglob; echo $-; umask`;
    const { output } = await box.shell.run(look);
    expect(output.split("\n")).toEqual(
      expect.arrayContaining(["42", "/tmp/a dir", "hello you", "alias ls='ls -a'", "nullglob", "0027"]),
    );
    expect(output).toMatch(/n {3}e {3}w {2}\\n.*"/);
    expect(output).toContain("377");
    expect(output).toMatch(/u {3}n {3}s {3}e {3}t/);
    expect((await other.run("pwd; echo $WHO; id -un")).output).toBe("/var\nroot\nroot\n");
  });

  test("is not taken of a shell that works, hangs or says too much, and nothing waits for it", async () => {
    await using box = (await sandbox()) as OciSandbox;
    const [busy, stopped, fat] = await Promise.all([box.openSession(), box.openSession(), box.openSession()]);
    const running = busy.run("sleep 2; echo done");
    await stopped.run("kill -STOP $$", { timeoutMs: 300 });
    await fat.run(
      "export FAT=$(head -c 100000 /dev/zero | tr '\\0' x); for i in {1..15}; do export FAT$i=$FAT; done",
    );
    await box.shell.run("__ale_state() { builtin printf 'forged\\0 evil'; }");
    const states = await box.captureShells();
    expect(states.map(({ id }) => id).filter((id) => id === busy.id || id === fat.id)).toEqual([]);
    expect(states.find(({ id }) => id === box.shell.id)?.cwd).toBe("forged");
    expect((await running).output).toBe("done\n");
    expect((await fat.run('[[ $FAT15 == "$FAT" ]] && echo same')).output).toBe("same\n");
  });
});
