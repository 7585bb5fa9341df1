import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { mount, unmount } from "../src/host/native.ts";
import { findTool } from "../src/host/tools.ts";
import { exportImage, importImage, resolveImage } from "../src/index.ts";
import { type Entry, makeImage, tarOf, temporary } from "./image-support.ts";

const asRoot = process.platform === "linux" && process.getuid?.() === 0;
const LOWER = tarOf({ path: "etc", type: "directory", mode: 0o755 }, { path: "etc/old", content: "old" });
const UPPER = tarOf(
  { path: "etc", type: "directory", mode: 0o755 },
  { path: "etc/.wh.old" },
  { path: "tool", content: "#!", mode: 0o4755, uid: 7 },
);

async function homeWithImage() {
  const home = temporary();
  await makeImage(home.path, "team/app:1", [LOWER, UPPER]);
  return home;
}

describe.skipIf(!asRoot)("image archives", () => {
  test.each(["docker-archive", "oci-archive", "oci-layout"] as const)(
    "an image that went out as %s comes back as it was",
    async (format) => {
      using home = await homeWithImage();
      using other = temporary();
      const path = join(home.path, "archive");
      await exportImage(home.path, "team/app:1", path, { format });
      const image = await importImage(other.path, path, { name: "again:2" });
      const before = resolveImage(home.path, "team/app:1");
      expect(image.config).toEqual(before.config);
      const names = (layers: readonly string[]) => layers.map((layer) => layer.split("/").at(-2));
      expect(names(image.layers)).toEqual(names(before.layers));
      expect(readFileSync(join(image.layers[0]!, "tool"), "utf8")).toBe("#!");
      expect(resolveImage(other.path, "again:2").digest).toBe(image.digest);
      // A second round changes nothing any more: the bytes of the layers were kept.
      const twice = join(home.path, "twice");
      await exportImage(other.path, "again:2", twice, { format: "oci-archive" });
      using third = temporary();
      expect((await importImage(third.path, twice, { name: "again:2" })).digest).toBe(image.digest);
    },
  );

  test("a stream, compressed or not, is as good as a file", async () => {
    using home = await homeWithImage();
    using other = temporary();
    const path = join(home.path, "archive.tar");
    await exportImage(home.path, "team/app:1", path);
    const plain = await importImage(other.path, createReadStream(path), { name: "plain" });
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path)));
    const packed = await importImage(other.path, createReadStream(`${path}.gz`), { name: "packed" });
    expect(packed.digest).toBe(plain.digest);
  });

  test.skipIf(findTool("podman") === undefined)(
    "podman loads what we export, and we import what podman saves",
    async () => {
      using home = await homeWithImage();
      using other = temporary();
      const place = join(home.path, "podman");
      mkdirSync(place);
      const podman = (...argv: string[]) => {
        const dirs = ["--root", join(place, "root"), "--runroot", join(place, "run"), "--storage-driver=vfs"];
        const done = spawnSync("podman", [...dirs, ...argv], {
          encoding: "utf8",
          env: { ...process.env, TMPDIR: place },
        });
        expect(done.status, done.stderr).toBe(0);
        return done.stdout;
      };
      const [docker, oci] = [join(home.path, "docker.tar"), join(home.path, "oci.tar")];
      await exportImage(home.path, "team/app:1", docker);
      await exportImage(home.path, "team/app:1", oci, { format: "oci-archive" });
      const loaded = /: (\S*team\/app:1)$/m.exec(podman("load", "-q", "-i", docker))?.[1];
      expect(loaded).toBeDefined();
      podman("load", "-q", "-i", oci);
      for (const format of ["docker-archive", "oci-archive"]) {
        const saved = join(place, format);
        podman("save", "-q", "--format", format, "-o", saved, loaded!);
        const image = await importImage(other.path, saved, { name: `from/${format}` });
        expect(image.config).toMatchObject({ workdir: "/srv", env: { GREETING: "hello" } });
        expect(readFileSync(join(image.layers[0]!, "tool"), "utf8")).toBe("#!");
        expect((await importImage(other.path, saved)).name).toBe("team/app:1");
      }
    },
  );

  test("of which one is no image, broken, or lying is refused and leaves nothing", async () => {
    using home = temporary();
    const attempt = (...entries: readonly Entry[]) => {
      const path = join(home.path, "x.tar");
      writeFileSync(path, tarOf(...entries));
      return importImage(home.path, path, { name: "x" });
    };
    await expect(attempt({ path: "readme", content: "hello" })).rejects.toMatchObject({
      code: "archive-invalid",
    });
    await expect(attempt({ path: "manifest.json", content: "{" })).rejects.toMatchObject({
      code: "image-invalid",
    });
    const manifest = JSON.stringify([{ Config: "c.json", RepoTags: null, Layers: ["../../../etc/passwd"] }]);
    const config = JSON.stringify({
      os: "linux",
      architecture: "amd64",
      rootfs: { type: "layers", diff_ids: [`sha256:${"1".repeat(64)}`] },
    });
    await expect(
      attempt({ path: "manifest.json", content: manifest }, { path: "c.json", content: config }),
    ).rejects.toMatchObject({ code: "archive-invalid" });
    await expect(
      attempt(
        { path: "manifest.json", content: manifest.replace("../../../etc/passwd", "l.tar") },
        { path: "c.json", content: config },
        { path: "l.tar", content: LOWER },
      ),
    ).rejects.toMatchObject({ code: "digest-mismatch" });
    await expect(importImage(home.path, join(home.path, "x.tar"))).rejects.toMatchObject({
      code: "archive-nameless",
    });
    await expect(importImage(home.path, join(home.path, "none"), { name: "x" })).rejects.toMatchObject({
      code: "archive-missing",
    });
    expect(() => resolveImage(home.path, "x")).toThrow("no local image");
    expect(readdirSync(join(home.path, "images", "staging"))).toEqual([]);
    expect(existsSync(join(home.path, "images", "layers"))).toBe(false);
  });

  test("onto a full disk one fails with what to do, and leaves nothing half-made", async () => {
    using source = temporary();
    using home = temporary();
    await makeImage(source.path, "big", [tarOf({ path: "big", content: randomBytes(3 << 20) })]);
    const archive = join(source.path, "big.tar");
    await exportImage(source.path, "big", archive);
    mount({ type: "tmpfs", source: "ale", target: home.path, flags: 0, data: "size=4m" });
    try {
      await expect(importImage(home.path, archive, { name: "big" })).rejects.toMatchObject({
        code: "disk-full",
        next: expect.stringContaining("ale rock image prune"),
      });
      const images = join(home.path, "images");
      expect(readdirSync(join(images, "staging"))).toEqual([]);
      expect(existsSync(join(images, "layers")) ? readdirSync(join(images, "layers")) : []).toEqual([]);
      expect(() => resolveImage(home.path, "big")).toThrow("no local image");
    } finally {
      unmount(home.path);
    }
  });

  test("an export never overwrites", async () => {
    using home = await homeWithImage();
    const path = join(home.path, "there");
    writeFileSync(path, "mine");
    await expect(exportImage(home.path, "team/app:1", path)).rejects.toMatchObject({ code: "target-exists" });
    expect(readFileSync(path, "utf8")).toBe("mine");
  });
});
