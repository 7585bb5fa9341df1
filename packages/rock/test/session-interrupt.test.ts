import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { closeDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

/** Lists of short commands, in which the shell is nearly always between a fork and an exec, or about to begin the next one. */
const LISTS = [
  ["of short commands", "/bin/true; ".repeat(60)],
  ["of short commands that must all do well", "/bin/true && ".repeat(60)],
  ["of lines", "/bin/true\n".repeat(60)],
  ["of substitutions", "x=$(/bin/true); ".repeat(60)],
  ["of subshells", "(/bin/true; /bin/true); ".repeat(30)],
  ["of pipelines", "/bin/echo | /bin/cat > /dev/null; ".repeat(30)],
] as const;

describe.skipIf(obstacle)(suite("what was interrupted"), () => {
  test.each(LISTS)(
    "runs no further, at whatever moment of a list %s",
    { timeout: 120_000 },
    async (_, list) => {
      await using box = await sandbox();
      await box.shell.run("kept=yes");
      for (let round = 0; round < 60; round++) {
        const running = box.shell.run(`echo begun; ${list}sleep 60; echo never`);
        await sleep(Math.random() * 100);
        await box.shell.interrupt();
        const { output, interrupted } = await running;
        expect({ interrupted, never: output.includes("never") }).toEqual({ interrupted: true, never: false });
      }
      expect((await box.shell.run("ps -e -o args= | grep -c -e '[s]leep 60' -e '[b]in/true'")).output).toBe(
        "0\n",
      );
      expect((await box.shell.run("echo $kept")).output).toBe("yes\n");
    },
  );

  test.each(LISTS)(
    "runs no further when its time is over, at whatever moment of a list %s",
    { timeout: 120_000 },
    async (_, list) => {
      await using box = await sandbox();
      await box.shell.run("kept=yes");
      for (let round = 0; round < 60; round++) {
        const timeoutMs = 1 + Math.random() * 100;
        const { output, timedOut } = await box.shell.run(`echo begun; ${list}sleep 60; echo never`, {
          timeoutMs,
        });
        expect({ timedOut, never: output.includes("never") }).toEqual({ timedOut: true, never: false });
      }
      expect((await box.shell.run("echo $kept")).output).toBe("yes\n");
    },
  );

  test.each([
    ["ignores it", "(trap '' INT TERM; sleep 60)"],
    ["answers it and ends well", "perl -e '$SIG{INT} = sub { exit 0 }; sleep 60'"],
    ["is killed by somebody else", "sh -c 'trap : INT; sleep 60; kill -9 $$'"],
  ])("runs no further after a program that %s", async (_, program) => {
    await using box = await sandbox();
    await box.shell.run("kept=yes");
    const started = Promise.withResolvers<void>();
    const onOutput = () => started.resolve();
    const running = box.shell.run(`echo begun; ${program}; echo never`, { onOutput });
    await started.promise;
    await sleep(100);
    await box.shell.interrupt();
    expect(await running).toMatchObject({ interrupted: true, output: "begun\n", shellRestarted: false });
    const timed = await box.shell.run(`echo begun; ${program}; echo never`, { timeoutMs: 300 });
    expect(timed).toMatchObject({ timedOut: true, output: "begun\n", shellRestarted: false });
    expect((await box.shell.run("echo $kept")).output).toBe("yes\n");
  });
});
