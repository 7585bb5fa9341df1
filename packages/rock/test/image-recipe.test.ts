import { mkdirSync, mkdtempSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { removeTree } from "../src/host/mounts.ts";
import {
  BASE_IMAGE,
  bootstrapImage,
  defaultHome,
  ensureBaseImage,
  ensurePythonImage,
  imageLabel,
  mapImage,
  OciDriver,
  resolveImage,
} from "../src/index.ts";
import { obstacle, spec, suite } from "./support.ts";

/** A home with images of its own that begins with the base image alone. */
async function homeWithBase(): Promise<{ path: string } & Disposable> {
  await ensureBaseImage(defaultHome());
  const path = mkdtempSync(join(tmpdir(), "ale-recipe-"));
  mkdirSync(join(path, "images"));
  symlinkSync(join(defaultHome(), "images", "ale-base"), join(path, "images", "ale-base"));
  return { path, [Symbol.dispose]: () => removeTree(path) };
}

describe.skipIf(obstacle)(suite("bootstrapped and mapped images"), () => {
  // Made once on a machine, which takes as long as its packages take to come.
  beforeAll(async () => {
    await ensurePythonImage(defaultHome());
  }, 600_000);

  test("the Python image runs python3 as root and has what Python tasks call", async () => {
    const image = await ensurePythonImage(defaultHome());
    expect(image.config.user).toBe("root");
    await using driver = new OciDriver();
    await using box = await driver.create(
      spec({ image: "ale/python", limits: { memoryBytes: 512 * 2 ** 20 } }),
    );
    const tools = ["bash", "sed", "wc", "ls", "python", "python3", "useradd", "ps", "awk"];
    const found = await box.exec({
      argv: ["sh", "-c", `id -u; for tool in ${tools.join(" ")}; do command -v $tool || echo no $tool; done`],
      user: "root",
    });
    expect(found.stdout).toMatch(/^0\n/);
    expect(found.stdout).not.toContain("no ");
    const sum = await box.exec({ argv: ["python3", "-c", "print(sum(range(10)))"], user: "root" });
    expect(sum).toMatchObject({ exitCode: 0, stdout: "45\n" });
  });

  test("asking for a recipe again makes nothing and gives the same image", async () => {
    const first = await ensurePythonImage(defaultHome());
    const steps: string[] = [];
    const again = await ensurePythonImage(defaultHome(), { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([]);
    expect(again).toEqual(first);
  });

  test("a mapped name gives the other image's content and says so", async () => {
    using home = await homeWithBase();
    const image = mapImage(home.path, "ubuntu:24.04", BASE_IMAGE);
    const base = resolveImage(home.path, BASE_IMAGE);
    expect(image).toMatchObject({ name: "ubuntu:24.04", layers: base.layers, mappedTo: "ale/base:latest" });
    expect(imageLabel(image)).toBe(`ubuntu:24.04@${base.digest} (mapped to ale/base:latest)`);
    expect(resolveImage(home.path, "docker.io/library/ubuntu:24.04").layers).toEqual(base.layers);
  });

  test("mappings cannot go round in circles, and none replaces the base image", async () => {
    using home = await homeWithBase();
    mapImage(home.path, "one", BASE_IMAGE);
    mapImage(home.path, "two", "one");
    expect(resolveImage(home.path, "two").mappedTo).toBe("ale/base:latest");
    expect(() => mapImage(home.path, "two", "two")).not.toThrow();
    expect(() => mapImage(home.path, BASE_IMAGE, "one")).toThrow("always stands for itself");
    expect(() => mapImage(home.path, "three", "missing")).toThrow("no local image called missing");
  });

  test("an unknown name is met with the nearest known one and the way to get it", async () => {
    using home = await homeWithBase();
    mapImage(home.path, "python:3.11", BASE_IMAGE);
    expect(() => resolveImage(home.path, "pyton:3.11")).toThrow(
      expect.objectContaining({
        code: "image-unknown",
        next: expect.stringMatching(/did you mean python:3\.11\?.*ale rock image pull pyton:3\.11/),
      }),
    );
    expect(() => resolveImage(home.path, "../../etc")).toThrow(
      expect.objectContaining({ code: "reference-invalid" }),
    );
  });

  test("a recipe with a package, release or name that is none is refused before anything is fetched", async () => {
    using home = await homeWithBase();
    const attempt = (more: object) => bootstrapImage(home.path, { name: "mine", ...more });
    await expect(attempt({ packages: ["--hook=touch /x"] })).rejects.toMatchObject({
      code: "package-invalid",
    });
    await expect(attempt({ suite: "--mode=chroot" })).rejects.toMatchObject({ code: "suite-invalid" });
    await expect(attempt({ name: BASE_IMAGE })).rejects.toMatchObject({ code: "image-reserved" });
    await expect(attempt({ name: "Mine" })).rejects.toMatchObject({ code: "reference-invalid" });
  });
});
