import { spawn } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { mount, unmount } from "../src/host/native.ts";
import { isRootless } from "../src/host/rootless.ts";
import {
  defaultHome,
  findEvidence,
  listEvidence,
  mapImage,
  OciDriver,
  pruneEvidence,
  pruneImages,
  quarantine,
  releaseEvidence,
  removeImage,
  type Sandbox,
} from "../src/index.ts";
import { homeWithBase } from "./image-support.ts";
import { obstacle, spec, suite, traces } from "./support.ts";

const IMAGE = "ale/evidence:case-1";
const release = { by: "user:test", reason: "looked at" };

/** With a daemon that counts, so that it can be seen whether anything runs. */
async function quarantined(driver: OciDriver, limits = {}): Promise<Sandbox> {
  const box = await driver.create(spec({ limits }));
  await box.shell.run("echo loot > loot; (setsid sh -c 'while :; do :; done' &)");
  const kept = await quarantine(driver, box, { id: "case-1", labels: { quarantine: "no-loot" } });
  expect(kept).toMatchObject({ notFrozen: undefined, image: IMAGE, failures: [] });
  expect((await driver.snapshots.get(kept.snapshot!))?.labels).toEqual({ quarantine: "no-loot" });
  return box;
}

async function lootIn(home: string): Promise<string> {
  await using driver = new OciDriver({ home });
  await using box = await driver.create(spec({ image: IMAGE }));
  return (await box.exec({ argv: ["wc", "-c", "/work/loot"] })).stdout.trim();
}

/** Resolves with the id of its sandbox when it is dead. */
async function killedInQuarantine(home: string, bytes: number): Promise<string> {
  const script = join(import.meta.dirname, "evidence-process.ts");
  const child = spawn(process.execPath, [script, home, String(bytes)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const signal = await new Promise((resolve) => child.once("close", (_, by) => resolve(by)));
  expect(signal).toBe("SIGKILL");
  return said.trim();
}

describe.skipIf(obstacle !== undefined || isRootless())(suite("a sandbox in quarantine"), () => {
  test("takes no processor, and neither its lifetime nor its idle time ends it", async () => {
    using home = await homeWithBase();
    await using driver = new OciDriver({ home: home.path });
    const box = await driver.create(spec({ idleMs: 1_500, limits: { lifetimeMs: 1_500 } }));
    await box.exec({ argv: ["sh", "-c", "(while :; do :; done) &"] });
    await quarantine(driver, box, { id: "case-1", labels: {} });
    const before = (await box.stats()).cpuMs!;
    await sleep(2_500);
    expect(box.endReason).toBeUndefined();
    expect((await box.stats()).cpuMs).toBe(before);
    // What was left of its lifetime is less than an idle time that begins anew.
    await box.thaw();
    expect(await box.ended).toBe("lifetime");
  }, 60_000);

  test("is listed with what it costs, and its image outlives its driver", async () => {
    using home = await homeWithBase();
    {
      await using driver = new OciDriver({ home: home.path });
      const box = await quarantined(driver);
      const [frozen] = listEvidence(home.path);
      expect(frozen).toMatchObject({
        id: "case-1",
        sandbox: box.id,
        labels: { quarantine: "no-loot" },
        files: { type: "kept", bytes: expect.any(Number), salvaged: false },
        frozen: { pid: process.pid, memoryBytes: expect.any(Number), diskBytes: expect.any(Number) },
        released: null,
      });
      expect(frozen!.frozen!.memoryBytes).toBeGreaterThan(100_000);
    }
    expect(listEvidence(home.path)).toMatchObject([{ id: "case-1", frozen: undefined, orphaned: false }]);
    expect(await lootIn(home.path)).toBe("5 /work/loot");
  }, 60_000);

  test("keeps its image against everything but a person's release, and then it is gone for good", async () => {
    using home = await homeWithBase();
    {
      await using driver = new OciDriver({ home: home.path });
      await quarantined(driver);
      expect(() => removeImage(home.path, IMAGE)).toThrow(/is kept: it is evidence/);
      expect(() => mapImage(home.path, IMAGE, "ale/base")).toThrow(/is kept/);
      pruneImages(home.path);
      expect(pruneEvidence(home.path)).toEqual({ removed: [], kept: [], held: 1 });
      for (const word of ["", "c", "case"])
        expect(() => findEvidence(home.path, word)).toThrow(/is too short to name evidence/);
      expect(() => findEvidence(home.path, "cases")).toThrow(/there is no evidence/);
    }
    {
      await using driver = new OciDriver({ home: home.path });
      await using looking = await driver.create(spec({ image: IMAGE }));
      releaseEvidence(home.path, "case-1", release);
      expect(() => releaseEvidence(home.path, "case-1", release)).toThrow(/released before, by user:test/);
      // Somebody still looks at it.
      expect(pruneEvidence(home.path)).toMatchObject({
        removed: [],
        kept: [{ why: expect.stringContaining(looking.id) }],
      });
    }
    expect(pruneEvidence(home.path).removed).toEqual([{ id: "case-1", bytes: expect.any(Number) }]);
    expect(pruneEvidence(home.path)).toEqual({ removed: [], kept: [], held: 0 });
    await expect(lootIn(home.path)).rejects.toMatchObject({ code: "image-unknown" });
    expect(listEvidence(home.path)).toMatchObject([
      { id: "case-1", files: { type: "removed", kept: { type: "kept" } }, released: release },
    ]);
  }, 60_000);

  test("ends when it is released, wherever that is said", async () => {
    using home = await homeWithBase();
    await using driver = new OciDriver({ home: home.path });
    const box = await quarantined(driver);
    releaseEvidence(home.path, "case-1", release);
    expect(await Promise.race([box.ended, sleep(10_000)])).toBe("destroyed");
  }, 60_000);

  test("whose process is killed before anything of it is kept is kept by the next one, and leaves nothing else", async () => {
    using home = await homeWithBase();
    const id = await killedInQuarantine(home.path, 12_345);
    expect(listEvidence(home.path)).toMatchObject([{ orphaned: true, files: { type: "wanted" } }]);
    {
      await using driver = new OciDriver({ home: home.path });
      expect(await driver.reap()).toMatchObject({ reaped: [id], failures: [] });
    }
    expect(traces(home.path, [id])).toEqual([]);
    expect(listEvidence(home.path)).toMatchObject([{ files: { type: "kept", salvaged: true } }]);
    expect(await lootIn(home.path)).toBe("12345 /work/loot");
  }, 60_000);

  test("is not given up where there is no room for it: it stays until there is", async () => {
    using home = await homeWithBase();
    const images = join(home.path, "images");
    rmSync(images, { recursive: true });
    mkdirSync(images);
    mount({ type: "tmpfs", source: "ale", target: images, flags: 0, data: "size=2m" });
    using _ = { [Symbol.dispose]: () => void unmount(images) };
    symlinkSync(join(defaultHome(), "images", "ale-base"), join(images, "ale-base"));
    const id = await killedInQuarantine(home.path, 8 * 2 ** 20);
    {
      await using driver = new OciDriver({ home: home.path });
      const { reaped, failures } = await driver.reap();
      expect(reaped).toEqual([]);
      expect(failures).toEqual([{ id, what: expect.stringContaining("are evidence (case-1)") }]);
    }
    const MS_REMOUNT = 32;
    mount({ type: "tmpfs", source: "ale", target: images, flags: MS_REMOUNT, data: "size=64m" });
    expect(await lootIn(home.path)).toBe(`${8 * 2 ** 20} /work/loot`);
  }, 60_000);
});
