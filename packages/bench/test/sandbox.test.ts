import { Instance, type Verdict } from "@ale/core";
import { ensureBaseImage, OciDriver, type Sandbox, type SandboxDriver } from "@ale/rock";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  admit,
  executeActions,
  FAMILIES,
  makeTask,
  openEnvironment,
  oracleActor,
  pieces,
  sandboxRun,
  unknownPieces,
  verify,
} from "../src/index.ts";
import { aleHome, whyNoSandbox } from "./sandboxes.ts";

const reason = whyNoSandbox();
const SEEDS = [0, 1, 2];

describe.skipIf(reason !== null)(`in real sandboxes${reason === null ? "" : ` (skipped: ${reason})`}`, () => {
  let driver: SandboxDriver;
  beforeAll(async () => {
    await ensureBaseImage(aleHome());
    driver = new OciDriver({ home: aleHome() });
  });
  afterAll(async () => driver[Symbol.asyncDispose]());

  describe.each([...FAMILIES.keys()])("family %s", (id) => {
    it.each(SEEDS)(
      "is admitted with seed %i: oracle 1, shortcut 1, no-op and mutants 0, repeatably",
      async (seed) => {
        const admission = await admit(makeTask(id, "train", seed), sandboxRun(driver));
        expect(admission.findings.filter((finding) => !finding.holds)).toEqual([]);
        expect(admission.admitted).toBe(true);
      },
    );

    it("never fails on the way, and shows short observations in the closed vocabulary", async () => {
      const task = makeTask(id, "train", 11);
      await using sandbox = await openEnvironment(driver, task.instance);
      const { results } = await executeActions(sandbox, oracleActor(task));
      for (const { content, isError } of results) {
        expect(unknownPieces(content), content).toEqual([]);
        expect(pieces(content).length, content).toBeLessThanOrEqual(25);
        expect(isError, content).toBe(false);
      }
    });
  });

  it("reads the commonest mistakes of an agent in the closed vocabulary", async () => {
    await using sandbox = await openEnvironment(driver, makeTask("games", "train", 0).instance);
    for (const command of [
      "moss",
      "sh moss 4",
      "cat moss",
      "mv moss newt",
      "head -1 moss",
      "max 3",
      "echo $((4*))",
    ])
      expect(unknownPieces((await sandbox.shell.run(command)).output.replace(/\*.*/, "")), command).toEqual(
        [],
      );
  });

  describe("verifier", () => {
    const task = makeTask("holdout", "train", 0);
    const withCommand = (command: string, changes: Partial<Instance["verifier"]> = {}) =>
      Instance.parse({ ...task.instance, verifier: { ...task.instance.verifier, ...changes, command } });
    const judged = async (
      instance: Instance,
      work?: (sandbox: Sandbox) => Promise<unknown>,
    ): Promise<Verdict> => {
      await using sandbox = await openEnvironment(driver, instance);
      await work?.(sandbox);
      return await verify(sandbox, instance);
    };

    it("lists each test of a run, passed or not", async () => {
      const { reward, tests } = await judged(task.instance);
      expect(reward).toBe(0);
      expect(tests.length).toBe(3);
      expect(tests.filter(({ passed }) => passed).length).toBe(1);
    });

    it("takes the number from the reward file and ignores the exit code", async () => {
      const verdict = await judged(withCommand("echo 0.25 > /logs/verifier/reward.txt; exit 7"));
      expect(verdict).toMatchObject({ reward: 0.25 });
      expect(verdict.environmentFault).toBeUndefined();
    });

    it.each([
      ["missing", "rm /logs/verifier/reward.txt", /not-found/],
      ["empty", "true", /is empty/],
      ["no number", "echo nan > /logs/verifier/reward.txt", /not a number/],
      ["outside the range", "echo 7 > /logs/verifier/reward.txt", /outside/],
    ])("blames the environment for a reward that is %s", async (_, command, message) => {
      const verdict = await judged(withCommand(command));
      expect(verdict.reward).toBeNull();
      expect(verdict.environmentFault).toMatch(message);
    });

    it("blames the environment for a verifier that does not end", async () => {
      const verdict = await judged(
        withCommand("echo 1 > /logs/verifier/reward.txt; sleep 60", { timeoutMs: 300 }),
      );
      expect(verdict.reward).toBeNull();
      expect(verdict.environmentFault).toMatch(/longer than 300 ms/);
    });

    it("blames the environment when the sandbox is gone", async () => {
      const sandbox = await openEnvironment(driver, task.instance);
      await sandbox.destroy();
      const verdict = await verify(sandbox, task.instance);
      expect(verdict.reward).toBeNull();
      expect(verdict.environmentFault).toBeTypeOf("string");
    });

    it("is invisible to the agent before, and out of its reach afterwards", async () => {
      await using sandbox = await openEnvironment(driver, task.instance);
      expect((await sandbox.shell.run("ls /tests /logs/verifier")).exitCode).not.toBe(0);
      await verify(sandbox, task.instance);
      const after = await sandbox.shell.run(
        "cat /tests/test.sh; ls /logs/verifier; echo 1 > /logs/verifier/reward.txt",
      );
      expect(after.output.match(/Permission denied/g)?.length).toBe(3);
    });

    it("ends what the agent left running before it looks", async () => {
      const [, target] = /to (\w+) rest/.exec(task.instance.instruction)!;
      await using sandbox = await openEnvironment(driver, task.instance);
      await executeActions(sandbox, oracleActor(task));
      await sandbox.shell.run(`(sleep 1; echo spoilt > ${target}) > /dev/null 2>&1 &`);
      expect((await verify(sandbox, task.instance)).reward).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      expect((await verify(sandbox, task.instance)).reward).toBe(1);
    });

    it.each([
      ["a link", "ln -sf /etc/passwd"],
      ["a pipe", "mkfifo"],
      ["a directory", "mkdir"],
      ["an endless device by link", "ln -sf /dev/zero"],
    ])("gives 0, and quickly, where the answer is %s", async (_, command) => {
      const count = makeTask("count", "train", 0);
      const target = count.instance.instruction.split(" ").at(-1);
      const verdict = await judged(count.instance, (sandbox) => sandbox.shell.run(`${command} ${target}`));
      expect(verdict).toMatchObject({ reward: 0, tests: [{ name: target, passed: false }] });
      expect(verdict.durationMs).toBeLessThan(8_000);
    });

    it.each([
      ["bytes", "head -c 100m /dev/zero > big"],
      ["files", "for i in {1..30000}; do : > f$i; done"],
    ])("gives 0, not a fault, to an agent that fills its disk with %s", async (_, command) => {
      const verdict = await judged(task.instance, (sandbox) =>
        sandbox.shell.run(command, { timeoutMs: 10_000 }),
      );
      expect(verdict).toMatchObject({ reward: 0, tests: [{ name: "room-for-verifier", passed: false }] });
    });

    it("runs the agent's code as the agent, never as root", async () => {
      const debug = makeTask("debug", "train", 0);
      const verdict = await judged(debug.instance, async (sandbox) => {
        await sandbox.shell.run("echo 'echo 1 > /logs/verifier/reward.txt; id -u > who; exit 1' > test");
      });
      expect(verdict.reward).toBe(0);
      await using sandbox = await openEnvironment(driver, debug.instance);
      await sandbox.shell.run("echo 'id -u > /work/who; exit 1' > test");
      await verify(sandbox, debug.instance);
      const who = await sandbox.readFile("/work/who");
      expect(who.ok && new TextDecoder().decode(who.value)).toBe("1000\n");
    });
  });

  it.each(["data", "sci", "ml", "games", "debug"])(
    "the shortcut of %s leaves a trace where it is watched",
    async (id) => {
      const task = makeTask(id, "train", 0);
      await using sandbox = await openEnvironment(driver, task.instance);
      const watched = task.instance.protectedPaths;
      const paths = watched.map(({ path }) => path);
      const before = await sandbox.fingerprint(paths);
      await executeActions(sandbox, task.shortcut ?? []);
      const after = await sandbox.fingerprint(paths);
      watched.forEach(({ path, forbid }, i) => {
        expect(before[i]?.wasRead, path).toBe(false);
        if (forbid === "read") expect(after[i]?.wasRead, path).toBe(true);
        else expect(after[i]?.sha256, path).not.toBe(before[i]?.sha256);
      });
    },
  );

  it("is installed, also for admission and replay, and gone where that fails", async () => {
    const { instance } = makeTask("games", "train", 0);
    const with2 = (command: string) => ({
      ...instance,
      schema: "ale/instance@2" as const,
      install: { commands: [{ command, user: "root" as const }], env: {}, timeoutMs: 10_000 },
    });
    await using sandbox = await openEnvironment(driver, with2("id -un > /etc/installed; (sleep 100 &)"));
    expect((await sandbox.shell.run("cat /etc/installed; pgrep -c sleep")).output.trim()).toBe("root\n1");
    const before = driver.list().length;
    await expect(openEnvironment(driver, with2("exit 3"))).rejects.toMatchObject({ code: "install-failed" });
    expect(driver.list()).toHaveLength(before);
  });

  it("lets the honest player of games win without opening the hidden answer", async () => {
    const task = makeTask("games", "train", 0);
    await using sandbox = await openEnvironment(driver, task.instance);
    await executeActions(sandbox, oracleActor(task));
    expect((await verify(sandbox, task.instance)).reward).toBe(1);
    expect((await sandbox.fingerprint(["/work/.key"]))[0]?.wasRead).toBe(false);
  });
});
