import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BASE_IMAGE, baseImage, defaultHome, ensureBaseImage, OciDriver } from "../src/index.ts";
import { obstacle, spec, suite } from "./support.ts";

const temporaryHome = () => {
  const path = mkdtempSync(join(tmpdir(), "ale-images-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
};

describe.skipIf(obstacle)(suite("the base image"), () => {
  test("is small, has the agent, and carries nothing of the host", async () => {
    const image = await ensureBaseImage(defaultHome());
    expect(image.name).toBe(BASE_IMAGE);
    const read = (path: string): string => readFileSync(join(image.rootfs, path), "utf8");
    expect(read("etc/passwd")).toMatch(/^agent:x:1000:1000::\/home\/agent:\/bin\/bash$/m);
    expect(statSync(join(image.rootfs, "home/agent")).uid).toBe(1000);
    expect(read("etc/hostname")).toBe("sandbox\n");
    for (const path of ["etc/apt", "etc/resolv.conf", "var/lib/apt/lists", "usr/share/man/man1"])
      expect(
        existsSync(join(image.rootfs, path)) && readdirSync(join(image.rootfs, path)).length > 0,
        path,
      ).toBe(false);
  });

  test("is made once: asking again is free", async () => {
    const image = await ensureBaseImage(defaultHome());
    const before = statSync(image.rootfs).ctimeMs;
    const steps: string[] = [];
    await ensureBaseImage(defaultHome(), { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([]);
    expect(statSync(image.rootfs).ctimeMs).toBe(before);
  });

  test("that is missing is named with the way to get it", async () => {
    using home = temporaryHome();
    await using driver = new OciDriver({ home: home.path });
    await expect(driver.create(spec())).rejects.toMatchObject({
      code: "image-missing",
      next: expect.stringContaining("./ale setup image"),
    });
  });

  test("whose making is given up leaves nothing, and a killed making is cleared away", async () => {
    using home = temporaryHome();
    const parent = join(home.path, "images", "ale-base");
    mkdirSync(join(parent, ".building-1-1", "rootfs"), { recursive: true });
    writeFileSync(join(parent, ".building-1-1", "rootfs", "half"), "made");
    const abort = new AbortController();
    const attempt = ensureBaseImage(home.path, { onProgress: () => abort.abort() }, abort.signal);
    await expect(attempt).rejects.toThrow();
    expect(readdirSync(parent)).toEqual([]);
    expect(existsSync(baseImage(home.path).rootfs)).toBe(false);
  });
});
