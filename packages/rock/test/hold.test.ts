import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { Activity } from "../src/life/activity.ts";
import { Deadlines } from "../src/life/deadlines.ts";
import { closeDriver, driver, obstacle, spec, suite } from "./support.ts";

const HOUR = 3_600_000;
const SHORT = { idleMs: 700, limits: { lifetimeMs: 900 } };

describe.skipIf(obstacle)(suite("a sandbox whose clocks are held"), () => {
  afterAll(closeDriver);

  test("ends neither by its lifetime nor by its idle time, and goes on with what was left", async () => {
    await using box = await (await driver()).create(spec(SHORT));
    const hold = await box.hold(60_000);
    expect(hold.heldMs).toBe(60_000);
    expect(hold.leftMs).toBeGreaterThan(0);
    expect(hold.leftMs).toBeLessThanOrEqual(700);
    await sleep(1_500);
    expect(box.endReason).toBeUndefined();
    expect((await box.shell.run("echo here")).output).toBe("here\n");
    hold[Symbol.dispose]();
    const released = performance.now();
    expect(["lifetime", "idle"]).toContain(await box.ended);
    expect(performance.now() - released).toBeLessThan(5_000);
  });

  test("ends all the same where nobody lets go of it", async () => {
    await using box = await (await driver()).create(spec(SHORT));
    await box.hold(800);
    const began = performance.now();
    await box.ended;
    expect(performance.now() - began).toBeGreaterThan(1_000);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  test("is told where it is gone already", async () => {
    const box = await (await driver()).create(spec());
    await box.destroy();
    await expect(box.hold(1_000)).rejects.toMatchObject({ code: "sandbox-gone" });
  });
});

describe("what can be held altogether", () => {
  test("is a day, of which only what was used is gone", () => {
    const deadlines = new Deadlines(() => {});
    deadlines.lifetime(60_000);
    deadlines.idle(30_000, new Activity());
    const first = deadlines.holdWithin(20 * HOUR);
    const second = deadlines.holdWithin(20 * HOUR);
    expect([first.heldMs, second.heldMs]).toEqual([20 * HOUR, 4 * HOUR]);
    expect(deadlines.holdWithin(1).heldMs).toBe(0);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    const third = deadlines.holdWithin(30 * HOUR);
    expect(third.heldMs / HOUR).toBeCloseTo(20, 3);
    deadlines.clear();
  });
});
