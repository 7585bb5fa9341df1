import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { holdStore, openStore } from "../src/image/store.ts";
import {
  BASE_IMAGE,
  buildImage,
  imageDisk,
  listImages,
  mapImage,
  OciDriver,
  pruneImages,
  removeImage,
  resolveImage,
} from "../src/index.ts";
import { homeWithBase, makeImage, tarOf, temporary } from "./image-support.ts";
import { obstacle, spec, suite } from "./support.ts";

const SHARED = tarOf({ path: "shared", content: "s".repeat(1000) });
const one = (content: string) => tarOf({ path: "own", content });

describe.skipIf(obstacle)(suite("the images of a home"), () => {
  test("are listed with what they cost alone and together", async () => {
    using home = temporary();
    await makeImage(home.path, "a", [SHARED, one("a".repeat(10))]);
    await makeImage(home.path, "b", [SHARED, one("b".repeat(20))]);
    mapImage(home.path, "c", "a");
    const short = listImages(home.path).map(({ name, bytes, ownBytes, mappedTo }) => [
      name,
      bytes,
      ownBytes,
      mappedTo,
    ]);
    expect(short).toEqual([
      ["a:latest", 1010, 10, undefined],
      ["b:latest", 1020, 20, undefined],
      ["c:latest", 1010, 10, "a:latest"],
    ]);
    expect(imageDisk(home.path)).toMatchObject({ layerBytes: 1030, unusedBytes: 0 });
  });

  test("go by name: what another image shares stays, the rest is freed", async () => {
    using home = temporary();
    await makeImage(home.path, "a", [SHARED, one("a".repeat(10))]);
    await makeImage(home.path, "b", [SHARED, one("b".repeat(20))]);
    expect(removeImage(home.path, "a")).toMatchObject({ layers: 1, deferred: false });
    expect(resolveImage(home.path, "b").layers.every((layer) => existsSync(layer))).toBe(true);
    expect(removeImage(home.path, "b")).toMatchObject({ layers: 2 });
    const left = (name: string) => readdirSync(join(home.path, "images", name));
    expect([left("layers"), left("names"), left("blobs/sha256"), left("staging")]).toEqual([[], [], [], []]);
  });

  test("that do not exist, stand for others or are the base are not removed by mistake", async () => {
    using home = await homeWithBase();
    await makeImage(home.path, "tool", [SHARED]);
    mapImage(home.path, "alias", "tool");
    expect(() => removeImage(home.path, "tol")).toThrow(expect.objectContaining({ code: "image-unknown" }));
    expect(() => removeImage(home.path, "tool")).toThrow("alias:latest stand for it");
    expect(() => removeImage(home.path, BASE_IMAGE)).toThrow(
      expect.objectContaining({ code: "image-reserved" }),
    );
    removeImage(home.path, "alias");
    removeImage(home.path, "tool");
    expect(listImages(home.path)).toEqual([]);
  });

  test("are kept while a sandbox stands on them, also by prune", async () => {
    using home = await homeWithBase();
    const context = join(home.path, "context");
    mkdirSync(context);
    writeFileSync(join(context, "Dockerfile"), `FROM ${BASE_IMAGE}\nCOPY Dockerfile /here\n`);
    const { image } = await buildImage(home.path, { context, tag: "mine" });
    await using driver = new OciDriver({ home: home.path });
    const box = await driver.create(spec({ image: "mine", workdir: "/" }));
    expect(() => removeImage(home.path, "mine")).toThrow(`it is used by ${box.id}`);
    // A new image takes the name: the old layers have only the sandbox left.
    writeFileSync(join(context, "Dockerfile"), `FROM ${BASE_IMAGE}\nCOPY Dockerfile /there\n`);
    await buildImage(home.path, { context, tag: "mine" });
    pruneImages(home.path);
    expect((await box.exec({ argv: ["cat", "/here"], user: "root" })).stdout).toContain("FROM");
    expect(existsSync(image.layers[0]!)).toBe(true);
    await box.destroy();
    expect(pruneImages(home.path).layers).toBe(1);
    expect(existsSync(image.layers[0]!)).toBe(false);
    expect(resolveImage(home.path, "mine").layers.every((layer) => existsSync(layer))).toBe(true);
  });

  test("are not cleared up while others are being made", async () => {
    using home = temporary();
    await makeImage(home.path, "a", [SHARED]);
    {
      using _ = await holdStore(openStore(home.path));
      expect(() => pruneImages(home.path)).toThrow(expect.objectContaining({ code: "store-busy" }));
      expect(removeImage(home.path, "a")).toMatchObject({ layers: 0, deferred: true });
    }
    expect(pruneImages(home.path)).toMatchObject({ layers: 1 });
  });

  test("of dead processes leave nothing behind: what was half-made is cleared away", async () => {
    using home = temporary();
    await makeImage(home.path, "a", [SHARED]);
    const dead = `${"0".repeat(32)}-1-1-abc`;
    const staging = join(home.path, "images", "staging");
    mkdirSync(join(staging, dead, "diff"), { recursive: true });
    mkdirSync(join(home.path, "images", "partial"));
    writeFileSync(join(home.path, "images", "partial", "1".repeat(64)), "half");
    pruneImages(home.path);
    expect([readdirSync(staging), readdirSync(join(home.path, "images", "partial"))]).toEqual([[], []]);
  });
});
