import { afterAll, describe, expect, test } from "vitest";
import { closeDriver, file, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

describe.skipIf(obstacle)(suite("exec"), () => {
  test("runs a program as root in / and as the agent in the workdir", async () => {
    await using box = await sandbox({ workdir: "/srv/app", env: { FOR: "agent" } });
    const argv = ["bash", "-c", "id -un; pwd; echo $HOME $FOR"];
    expect((await box.exec({ argv, user: "root" })).stdout).toBe("root\n/\n/root agent\n");
    expect((await box.exec({ argv, user: "agent" })).stdout).toBe("agent\n/srv/app\n/home/agent agent\n");
  });

  test("passes arguments, environment, directory and stdin as they are", async () => {
    await using box = await sandbox();
    const stdin = "line\n".repeat(50_000);
    const result = await box.exec({
      argv: [
        "bash",
        "-c",
        'printf "[%s]" "$@"; echo " $A"; pwd; wc -c; wc -c < /dev/stdin',
        "x",
        "a b",
        "",
        "$HOME'\"",
        "é",
      ],
      user: "root",
      cwd: "/tmp",
      env: { A: "1 2" },
      stdin,
    });
    expect(result.stdout).toBe(`[a b][][$HOME'"][é] 1 2\n/tmp\n${stdin.length}\n0\n`);
  });

  test("keeps stdout and stderr apart and reports the exit code", async () => {
    await using box = await sandbox();
    const result = await box.exec({ argv: ["bash", "-c", "echo out; echo err >&2; exit 4"], user: "agent" });
    expect(result).toMatchObject({
      exitCode: 4,
      stdout: "out\n",
      stderr: "err\n",
      outputBytes: 8,
      timedOut: false,
    });
  });

  test.each([
    ["a program that is not there", ["/no/such/program"], undefined, 127, "No such file"],
    ["a directory that is not there", ["true"], "/no/such/directory", 127, "No such file"],
    ["a signal", ["bash", "-c", "kill -TERM $$"], undefined, 143, ""],
  ])("reports %s", async (_, argv, cwd, exitCode, stderr) => {
    await using box = await sandbox();
    const result = await box.exec({ argv, user: "root", ...(cwd ? { cwd } : {}) });
    expect(result.exitCode).toBe(exitCode);
    expect(result.stderr).toContain(stderr);
  });

  test("ends a program and its descendants at the deadline", async () => {
    await using box = await sandbox();
    const argv = ["bash", "-c", "echo began; (setsid sleep 71 &); sleep 72 & sleep 73"];
    const result = await box.exec({ argv, user: "root", timeoutMs: 300 });
    expect(result).toMatchObject({ exitCode: null, timedOut: true, stdout: "began\n" });
    expect((await box.shell.run("ps -e -o args= | grep '[s]leep 7'")).output).toBe("");
  });

  test("does not wait for what a program leaves in the background", async () => {
    await using box = await sandbox();
    const result = await box.exec({ argv: ["bash", "-c", "sleep 60 & echo done"], user: "root" });
    expect(result).toMatchObject({ exitCode: 0, stdout: "done\n" });
    expect(result.durationMs).toBeLessThan(10_000);
  });

  test("runs programs at the same time, beside the shell", async () => {
    await using box = await sandbox();
    const began = performance.now();
    const runs = [1, 2, 3, 4].map((n) =>
      box.exec({ argv: ["bash", "-c", `sleep 1; echo ${n}`], user: "root" }),
    );
    const shell = box.shell.run("sleep 1; echo shell");
    expect((await Promise.all(runs)).map((run) => run.stdout)).toEqual(["1\n", "2\n", "3\n", "4\n"]);
    expect((await shell).output).toBe("shell\n");
    expect(performance.now() - began).toBeLessThan(4_500);
  });

  test("gives a program up when its signal aborts", async () => {
    await using box = await sandbox();
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 200);
    const result = await box.exec({ argv: ["sleep", "60"], user: "root" }, abort.signal);
    expect(result).toMatchObject({ exitCode: null, timedOut: false });
    await expect(box.exec({ argv: ["true"], user: "root" }, abort.signal)).rejects.toThrow();
  });

  test("is deaf to whatever the agent did to its shell", async () => {
    await using box = await sandbox({
      files: [file("/tests/test.sh", "ls / > /dev/null && echo genuine", { owner: "root" })],
    });
    await box.shell.run(`
      mkdir -p ~/bin; printf '#!/bin/sh\\necho forged\\n' > ~/bin/bash; cp ~/bin/bash ~/bin/ls; chmod +x ~/bin/*
      export PATH=~/bin:$PATH BASH_ENV=~/evil ENV=~/evil LD_PRELOAD=/tmp/evil.so PROMPT_COMMAND='echo forged'
      echo 'echo forged; exit 0' | tee ~/evil ~/.bashrc ~/.profile ~/.bash_profile > /dev/null
      ls() { echo forged; }; echo() { builtin echo forged; }; export -f ls echo; alias ls='echo forged'; hash -p ~/bin/bash bash`);
    const result = await box.exec({ argv: ["bash", "/tests/test.sh"], user: "root" });
    expect(result).toMatchObject({ exitCode: 0, stdout: "genuine\n" });
    const login = await box.exec({ argv: ["bash", "-lc", "bash /tests/test.sh"], user: "root" });
    expect(login.stdout).toBe("genuine\n");
  });

  test("cannot be seen into, signalled or answered for by the agent", async () => {
    await using box = await sandbox();
    await box.shell.run(`cat > spy.sh <<'END'
      for i in $(seq 400); do
        for pid in $(ps -u root -o pid=); do
          kill -9 $pid 2>/dev/null && echo "killed $pid" >> spied
          cat /proc/$pid/environ >> spied 2>/dev/null
          ls /proc/$pid/fd/* >> spied 2>/dev/null && echo forged 2>/dev/null > /proc/$pid/fd/1
        done
      done
END
    bash spy.sh & sleep 0.2`);
    const argv = ["bash", "-c", "sleep 1; echo genuine"];
    const result = await box.exec({ argv, user: "root", env: { SECRET: "hidden-answer" } });
    expect(result).toMatchObject({ exitCode: 0, stdout: "genuine\n" });
    const spied = await box.readFile("/work/spied");
    expect(spied.ok ? Buffer.from(spied.value).toString() : "").toBe("");
  });

  test("counts a flood on both streams without keeping it", async () => {
    await using box = await sandbox({ limits: { outputBytes: 1_000 } });
    const argv = ["bash", "-c", "head -c 50000000 /dev/zero & head -c 50000000 /dev/zero >&2; wait"];
    const result = await box.exec({ argv, user: "root" });
    expect(result).toMatchObject({ exitCode: 0, outputBytes: 100_000_000, truncated: true });
    expect(Buffer.byteLength(result.stdout)).toBeLessThanOrEqual(1_000);
    expect(Buffer.byteLength(result.stderr)).toBeLessThanOrEqual(1_000);
  });

  test("killAgentProcesses leaves PID 1 alone with the next program", async () => {
    await using box = await sandbox();
    await box.shell.run("cd /tmp; sleep 60 & setsid sh -c \"trap '' TERM HUP INT; sleep 60\" & sleep 0.1");
    const pending = box.shell.run("sleep 60");
    await box.killAgentProcesses();
    expect(await pending).toMatchObject({ exitCode: null });
    const { stdout } = await box.exec({ argv: ["ps", "-e", "-o", "args="], user: "root" });
    expect(stdout).toBe("init\nps -e -o args=\n");
    expect(await box.shell.run("pwd")).toMatchObject({
      exitCode: 0,
      output: "/work\n",
      shellRestarted: true,
    });
  });
});
