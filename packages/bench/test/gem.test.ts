import { ensureBaseImage, OciDriver, type Sandbox } from "@ale/rock";
import { driverHost, type GemHost } from "@ale/rock/compat";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Action, familyEnvironments, instanceEnvironment, makeTask } from "../src/index.ts";
import { aleHome, whyNoSandbox } from "./sandboxes.ts";

const reason = whyNoSandbox();
const task = makeTask("games", "train", 0);

/** The reference solution as text, where every action is a command or the submission. */
function solution(observations: readonly string[]): string | null {
  const decision = task.plan[observations.length]?.(observations);
  return decision === undefined ? null : textOf(decision.right);
}

function textOf({ name, arguments: given }: Action): string {
  if (name === "submit") return "submit";
  if (name === "bash") return String(given.command);
  if (name === "read") return `cat -- '${given.path}'`;
  if (name === "write") return `cat > '${given.path}' <<'END'\n${String(given.content)}\nEND`;
  throw new Error(`no text for ${name}`);
}

describe("instances as environments", () => {
  it("are named by family, split and seed, and secret ones are not found", () => {
    const source = familyEnvironments();
    expect(source.ids()).toContain("ale:games");
    expect(source.find("ale:games")?.id).toBe("ale:games");
    expect(source.find("ale:games/heldout/3")?.id).toBe("ale:games/heldout/3");
    for (const id of [
      "ale:games/secret/3",
      "ale:nothing",
      "games",
      "ale:games/train/x",
      "ale:games/train/0/1",
    ])
      expect(source.find(id), id).toBeUndefined();
  });
});

describe.skipIf(reason !== null)(`instances played${reason === null ? "" : ` (skipped: ${reason})`}`, () => {
  let driver: OciDriver;
  beforeAll(async () => {
    await ensureBaseImage(aleHome());
    driver = new OciDriver({ home: aleHome() });
  });
  afterAll(async () => driver[Symbol.asyncDispose]());

  it("are worth 1 when solved and submitted, 0 when only submitted", async () => {
    await using game = await instanceEnvironment(task.instance).make(driverHost(driver));
    expect((await game.reset(0)).observation).toBe(task.instance.instruction);
    const observations: string[] = [];
    for (let text = solution([]); text !== null; text = solution(observations)) {
      const step = await game.step(text);
      if (step.terminated) {
        expect(step.reward).toBe(1);
        break;
      }
      expect([step.reward, step.truncated]).toEqual([0, false]);
      observations.push(step.observation);
    }
    await game.reset(0);
    expect(await game.step("\\boxed{submit}")).toMatchObject({ reward: 0, terminated: true });
  });

  it("show what a terminal would, with the exit code of what failed", async () => {
    await using game = await instanceEnvironment(task.instance).make(driverHost(driver));
    await game.reset(0);
    const step = await game.step("echo out; (exit 3)");
    expect(step).toMatchObject({ observation: "out\n\n[exit code 3]", info: { exitCode: 3 } });
  });

  it("begin anew with every reset, and leave no sandbox behind", async () => {
    const before = driver.list().length;
    {
      await using game = await instanceEnvironment(task.instance).make(driverHost(driver));
      await game.reset(0);
      await game.step("touch /work/left; cd /tmp; x=1");
      await game.reset(0);
      const step = await game.step("ls -A /work | grep -c left; pwd; echo x=$x");
      expect(step.observation.split(/\s+/).slice(0, 3)).toEqual(["0", "/work", "x="]);
      expect(driver.list().length).toBe(before + 1);
    }
    expect(driver.list().length).toBe(before);
  });

  it("are cut off and verified after the last step that is allowed", async () => {
    await using game = await instanceEnvironment(task.instance, { maxSteps: 2 }).make(driverHost(driver));
    await game.reset(0);
    expect((await game.step("true")).truncated).toBe(false);
    expect(await game.step("true")).toMatchObject({ reward: 0, terminated: false, truncated: true });
  });

  it("whose sandbox has gone are cut off, and say so", async () => {
    let made: Sandbox | undefined;
    const inner = driverHost(driver);
    const note = async (making: Promise<Sandbox>): Promise<Sandbox> => {
      made = await making;
      return made;
    };
    const host: GemHost = {
      ...inner,
      create: (spec, signal) => note(inner.create(spec, signal)),
      fork: (snapshot, signal) => note(inner.fork(snapshot, signal)),
    };
    await using game = await instanceEnvironment(task.instance).make(host);
    await game.reset(0);
    await made!.destroy();
    expect(await game.step("true")).toMatchObject({ truncated: true, info: { fault: "destroyed" } });
  });
});
