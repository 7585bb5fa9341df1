import { afterAll, describe, expect, test } from "vitest";
import { closeDriver, obstacle, sandbox, suite } from "../support.ts";
import { asAgent, asRoot, healthy } from "./attack.ts";

/** Attempts to make a result say what did not happen: ends of commands, exit codes, output of others. */
afterAll(closeDriver);

describe.skipIf(obstacle)(suite("forging a command's end"), () => {
  test.each([
    [
      "printing what an end looks like",
      "printf '0 %s\\n' abc0123456789; printf '\\0\\0\\0\\4done'; false",
      1,
    ],
    [
      "writing it to every descriptor",
      "for f in $(seq 3 63); do { printf '0 x\\n' >&$f; } 2>/dev/null; done; (exit 7)",
      7,
    ],
    [
      "writing it to descriptors of the shell",
      "for f in /proc/$$/fd/* /proc/$PPID/fd/*; do printf '0 x\\n' > $f; done 2>/dev/null; (exit 7)",
      7,
    ],
    [
      "a function called printf",
      "printf() { builtin printf '0 x\\n'; }; builtin() { return 0; }; eval() { return 0; }; (exit 7)",
      7,
    ],
    ["an alias of builtin", "alias builtin='true' printf='true' eval='true' exit='true'; (exit 7)", 7],
    ["a trap at every command", "trap 'true' DEBUG; trap 'true' ERR; trap 'true' RETURN; (exit 7)", 7],
    ["a prompt that runs", "PROMPT_COMMAND='true'; PS1='$(true)'; PS0='$(true)'; PS4='$(true)'; (exit 7)", 7],
    ["leaving the shell", "exec bash -c 'echo 0; exit 7'", 7],
    ["ending the shell", "exit 7", 7],
    ["an unfinished line", "echo $((", 1],
    ["an unfinished quote", "echo 'begun", 1],
    ["an unfinished here-document", "cat <<END\nnever ended\n(exit 7)", 0],
    ["changing the last status", "__ale_last=0; __ale_status() { return 0; }; (exit 7)", 7],
    ["making the shell's own variable read-only", "readonly __ale_command='true'; (exit 7)", 7],
  ])("by %s", async (_, command, exitCode) => {
    await using box = await sandbox();
    const result = await box.shell.run(command, { timeoutMs: 2_000 });
    // Whatever becomes of the shell, nothing is a success that was none.
    if (exitCode !== 0) expect(result.exitCode).not.toBe(0);
    expect(result.timedOut && result.exitCode !== null).toBe(false);
    expect((await box.exec({ argv: ["sh", "-c", "exit 3"], user: "root" })).exitCode).toBe(3);
    // A shell that broke itself is found out by the next command, which says that it got a new one.
    const next = await box.shell.run("true");
    expect(next.exitCode === 0 || next.shellRestarted).toBe(true);
    await healthy(box);
  });

  test("by a background job that writes into the next command's output", async () => {
    await using box = await sandbox();
    await box.shell.run("(sleep 0.3; printf '0 x\\n' >&8; printf '0 x\\n') 2>/dev/null &");
    expect(await box.shell.run("sleep 0.5; (exit 5)")).toMatchObject({ exitCode: 5 });
    await healthy(box);
  });

  test("by what a shell starts with, for programs that a judge starts", async () => {
    await using box = await sandbox();
    await asAgent(
      box,
      "for f in .bashrc .profile .bash_profile .bash_login .perl .env; do echo 'echo forged; exit 0' > ~/$f; done",
    );
    const judged = await box.exec({ argv: ["bash", "-c", "echo judged; exit 4"], user: "root" });
    expect(judged).toMatchObject({ stdout: "judged\n", exitCode: 4 });
  });

  test("by another's output: a program's pipes are closed to the agent", async () => {
    await using box = await sandbox();
    await box.shell.run(
      "(for i in $(seq 40); do for p in /proc/[0-9]*/fd/[12]; do echo forged > $p; done; sleep 0.01; done) >/dev/null 2>&1 &",
    );
    const judged = await asRoot(box, "sleep 0.3; echo judged");
    expect(judged.stdout).toBe("judged\n");
    await healthy(box);
  });
});

describe.skipIf(obstacle)(suite("forging the control channel"), () => {
  test("by frames on every descriptor that a program has", async () => {
    await using box = await sandbox();
    const frames =
      "my $f = pack(q(N/a*), pack(q((N/a*)*), q(done), q(x) x 16, 0)); for my $n (0 .. 255) { open(my $h, qq(>&=$n)) and syswrite($h, $f) } exit 6";
    for (const user of ["root", "agent"]) {
      const result = await box.exec({ argv: ["perl", "-e", frames], user });
      expect(result.exitCode).toBe(6);
    }
    await healthy(box);
  });

  test("by opening PID 1's connection", async () => {
    await using box = await sandbox();
    const open =
      "for (glob q(/proc/1/fd/* /proc/1/task/1/fd/*)) { open(my $h, q(+<), $_) and print qq(opened $_) } print readlink(q(/proc/1/fd/0)) // q()";
    for (const user of ["root", "agent"])
      expect((await box.exec({ argv: ["perl", "-e", open], user })).stdout).toBe("");
    await healthy(box);
  });

  test("by a name in the process list that looks like PID 1's", async () => {
    await using box = await sandbox();
    await box.exec({ argv: ["perl", "-e", "$0 = 'init'; fork and exit; sleep 5"], timeoutMs: 3_000 });
    await box.killAgentProcesses();
    expect((await box.stats()).pids).toBe(0);
    await healthy(box);
  });
});
