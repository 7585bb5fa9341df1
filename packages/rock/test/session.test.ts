import { afterAll, describe, expect, test } from "vitest";
import { closeDriver, file, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

describe.skipIf(obstacle)(suite("the agent's shell"), () => {
  test("runs as the unprivileged agent in the workdir", async () => {
    await using box = await sandbox({ workdir: "/srv/app" });
    const { output } = await box.shell.run("id -un; id -u; pwd; echo $HOME; ls -ld . | cut -d' ' -f3");
    expect(output).toBe("agent\n1000\n/srv/app\n/home/agent\nagent\n");
  });

  test("keeps directory, variables, functions and the last status between commands", async () => {
    await using box = await sandbox();
    await box.shell.run(
      "cd /tmp; colour=red; export SIZE=9; shout() { echo \"$1!\"; }; alias hi='echo hello'",
    );
    expect((await box.shell.run("pwd; echo $colour; shout now; hi; bash -c 'echo $SIZE'")).output).toBe(
      "/tmp\nred\nnow!\nhello\n9\n",
    );
    expect((await box.shell.run("(exit 7)")).exitCode).toBe(7);
    expect((await box.shell.run("echo $?")).output).toBe("7\n");
  });

  test("carries the environment of the spec", async () => {
    await using box = await sandbox({ env: { GREETING: "good day" } });
    expect((await box.shell.run("echo $GREETING")).output).toBe("good day\n");
  });

  test("interleaves stdout and stderr in the order of writing", async () => {
    await using box = await sandbox();
    const { output } = await box.shell.run(
      "echo one; echo two >&2; echo three; bash -c 'echo four >/dev/stderr'",
    );
    expect(output).toBe("one\ntwo\nthree\nfour\n");
  });

  test("gives commands an empty stdin and no terminal", async () => {
    await using box = await sandbox();
    const { output } = await box.shell.run('cat; read line; echo "[$line]"; tty');
    expect(output).toBe("[]\nnot a tty\n");
  });

  test("passes on output that is binary or lacks its last newline", async () => {
    await using box = await sandbox();
    expect((await box.shell.run("printf 'no newline'")).output).toBe("no newline");
    const binary = await box.shell.run("printf 'a\\377\\000b'");
    expect(binary.output).toBe("a\ufffd\0b");
    expect(binary.outputBytes).toBe(4);
  });

  test("understands here-documents, many lines and long commands", async () => {
    await using box = await sandbox();
    const lines = Array.from({ length: 4_000 }, (_, i) => `line ${i} 'quoted' "twice" $HOME é`).join("\n");
    const written = await box.shell.run(`cat > out.txt <<'END'\n${lines}\nEND\nwc -l < out.txt`);
    expect(written.output).toBe("4000\n");
    const read = await box.readFile("/work/out.txt");
    expect(read.ok && Buffer.from(read.value).toString()).toBe(`${lines}\n`);
  });

  test.each([
    ["a syntax error", "if then", 2],
    ["an unbalanced quote", "echo 'never closed", 2],
    ["an unclosed here-document", "cat <<END\ntext", 0],
    ["a break outside of a loop", "break; true", 0],
    ["an unset variable under set -u", "set -u; echo $nope", 1],
    ["a missing command", "no-such-command", 127],
    ["a command that dies of a signal", "bash -c 'kill -9 $$'", 137],
  ])("survives %s", async (_, command, exitCode) => {
    await using box = await sandbox();
    await box.shell.run("cd /tmp");
    const result = await box.shell.run(command);
    expect(result).toMatchObject({ exitCode, shellRestarted: false, timedOut: false });
    expect((await box.shell.run("set +u; pwd")).output).toBe("/tmp\n");
  });

  test.each([
    ["exit 3", 3],
    ["set -e; false; echo not reached", 1],
    ["kill -9 $$", 137],
    ["exec true", 0],
  ])("is started again, and says so, after `%s`", async (command, exitCode) => {
    await using box = await sandbox();
    await box.shell.run("cd /tmp; lost=1");
    const result = await box.shell.run(command);
    expect(result).toMatchObject({ exitCode, shellRestarted: true });
    expect(result.output).not.toContain("not reached");
    expect(await box.shell.run("pwd; echo [$lost]")).toMatchObject({
      output: "/work\n[]\n",
      shellRestarted: false,
    });
  });

  test("does not wait for what runs in the background", async () => {
    await using box = await sandbox();
    const result = await box.shell.run("sleep 60 & (sleep 0.3; echo late) & echo now");
    expect(result.durationMs).toBeLessThan(5_000);
    expect(result.output).toContain("now\n");
    expect((await box.shell.run("sleep 1")).output).toBe("late\n");
  });

  test.each([
    ["a program", "sleep 60"],
    ["a loop of programs", "while :; do sleep 60; done"],
    ["a busy loop of the shell itself", "while :; do :; done"],
    ["a pipeline", "yes | cat > /dev/null"],
    ["a subshell that ignores signals", "(trap '' INT TERM HUP; while :; do sleep 60; done)"],
    ["a list of a shell that ignores interrupts", "trap '' INT; while :; do sleep 60; done"],
    ["a list of a shell that answers them", "trap 'echo answered' INT; while :; do sleep 60; done"],
    ["a program in a session of its own", "setsid sh -c \"trap '' INT TERM; sleep 60\"; true"],
  ])("ends %s at its deadline and keeps its state", async (_, command) => {
    await using box = await sandbox();
    await box.shell.run("cd /tmp; kept=yes");
    const result = await box.shell.run(`echo began; ${command}`, { timeoutMs: 300 });
    expect(result).toMatchObject({ exitCode: null, timedOut: true, shellRestarted: false });
    expect(result.output).toContain("began\n");
    expect((await box.shell.run("pwd; echo $kept; ps -e -o args= | grep -c '[s]leep 60'")).output).toBe(
      "/tmp\nyes\n0\n",
    );
  });

  test("is replaced where it cannot be interrupted, daemons of the command included", async () => {
    await using box = await sandbox();
    await box.shell.run("trap '' INT RTMAX");
    const command = "(setsid sh -c 'sleep 61' &); while :; do sleep 60; done";
    const result = await box.shell.run(command, { timeoutMs: 300 });
    expect(result).toMatchObject({ exitCode: null, timedOut: true, shellRestarted: true });
    expect((await box.shell.run("ps -e -o args= | grep '[s]leep 6'; pwd")).output).toBe("/work\n");
  });

  test("leaves earlier background processes alone when a command runs out of time", async () => {
    await using box = await sandbox();
    await box.shell.run("sleep 1234 &");
    await box.shell.run("sleep 0.1");
    await box.shell.run("sleep 60", { timeoutMs: 200 });
    expect((await box.shell.run("ps -e -o args= | grep -c '[s]leep 1234'")).output).toBe("1\n");
  });

  test("gives a command up when its signal aborts, and stays usable", async () => {
    await using box = await sandbox();
    const abort = new AbortController();
    const running = box.shell.run("cd /tmp; sleep 60", {}, abort.signal);
    setTimeout(() => abort.abort(), 200);
    expect(await running).toMatchObject({ exitCode: null, timedOut: false, shellRestarted: false });
    expect((await box.shell.run("pwd")).output).toBe("/tmp\n");
  });

  test.each([
    ["readonly IFS LC_ALL"],
    ["enable -n read eval printf builtin"],
    ["set -t"],
    ["kill -STOP $$"],
    ["exec 7>&- 8>&- 9<&-; exec 0<&- 1>&- 2>&-"],
    ["IFS=; PATH=; set -f; shopt -s extdebug; trap 'echo debug' DEBUG"],
  ])("never answers one command with another's result, not even after `%s`", async (sabotage) => {
    await using box = await sandbox();
    await box.shell.run(sabotage, { timeoutMs: 500 });
    for (const word of ["one", "two", "three"]) {
      const result = await box.shell.run(`echo ${word}`, { timeoutMs: 2_000 });
      if (result.exitCode === 0) expect(result.output.replaceAll("debug\n", "")).toBe(`${word}\n`);
    }
    expect((await box.shell.run("exit")).shellRestarted).toBe(true);
    expect((await box.shell.run("echo well")).output).toBe("well\n");
  });

  test("runs one command at a time, in the order of asking", async () => {
    await using box = await sandbox();
    const results = await Promise.all([
      box.shell.run("sleep 0.2; echo a >> log"),
      box.shell.run("echo b >> log"),
      box.shell.run("cat log"),
    ]);
    expect(results[2]?.output).toBe("a\nb\n");
  });

  test("counts a flood of output and keeps its head and tail", async () => {
    await using box = await sandbox({ limits: { outputBytes: 2_000 } });
    const before = process.memoryUsage().rss;
    const flood = "echo first; head -c 200000000 /dev/zero | tr '\\0' x; echo; echo last";
    const result = await box.shell.run(flood);
    expect(result).toMatchObject({ exitCode: 0, truncated: true, outputBytes: 200_000_012 });
    expect(Buffer.byteLength(result.output)).toBeLessThanOrEqual(2_000);
    expect(result.output).toMatch(/^first\nx+\n\[\.\.\. \d+ bytes left out \.\.\.\]\nx+\nlast\n$/);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });

  test("does not take printed text for the end of a command", async () => {
    await using box = await sandbox();
    const forged =
      "for fd in 1 2; do printf '0 %s\\n' deadbeefdeadbeefdeadbeef >&$fd; done; sleep 0.2; echo real; false";
    const result = await box.shell.run(forged);
    expect(result.exitCode).toBe(1);
    expect(result.output).toMatch(/real\n$/);
  });

  test("hides its plumbing from commands and from set -x", async () => {
    await using box = await sandbox();
    expect((await box.shell.run("ls /proc/self/fd")).output).toBe("0\n1\n2\n3\n");
    await box.shell.run("set -x");
    expect((await box.shell.run("echo traced")).output).toBe("++ echo traced\ntraced\n");
  });

  test("refuses a command with a NUL character", async () => {
    await using box = await sandbox();
    await expect(box.shell.run("echo a\0b")).rejects.toMatchObject({ code: "nul-in-command" });
  });

  test("answers, and does not hang, when the sandbox is destroyed under it", async () => {
    const box = await sandbox({ files: [file("/work/a", "a")] });
    const running = box.shell.run("sleep 60");
    await box.destroy();
    expect(await running).toMatchObject({ exitCode: null, timedOut: false });
    expect(await box.shell.run("echo hi")).toMatchObject({ exitCode: null, output: "the sandbox has ended" });
    expect(await box.readFile("/work/a")).toMatchObject({ ok: false, error: { type: "sandbox-gone" } });
  });
});
