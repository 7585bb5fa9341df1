import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { applyLayer } from "../src/image/layer-apply.ts";
import { diffIdOf, emptyReport, packLayer } from "../src/image/layer-pack.ts";
import { getAttribute, setAttribute } from "../src/image/native-image.ts";
import { openStore } from "../src/image/store.ts";
import { readTar } from "../src/image/tar-read.ts";
import { unpackLayer } from "../src/image/unpack.ts";
import { bytesOf, type Directory, type Entry, tarOf, temporary } from "./image-support.ts";

const asRoot = process.platform === "linux" && process.getuid?.() === 0;

/** A directory `in` to unpack into, and a witness beside it that must stay as it is. */
function ground(): Directory & { readonly inside: string; readonly witness: string } {
  const place = temporary();
  const [inside, witness] = [join(place.path, "in"), join(place.path, "witness")];
  mkdirSync(inside);
  writeFileSync(witness, "untouched");
  return { ...place, inside, witness };
}

const unpack = (inside: string, ...entries: readonly Entry[]) =>
  applyLayer(bytesOf(tarOf(...entries)), inside);

describe.skipIf(!asRoot)("unpacking a layer", () => {
  test("keeps owners, modes, set-user-id, times, links, pipes and file capabilities", async () => {
    using place = ground();
    const capability = Buffer.from("0100000280200000000000000000000000000000", "hex");
    await unpack(
      place.inside,
      { path: "usr", type: "directory", mode: 0o2755, gid: 50 },
      {
        path: "usr/tool",
        mode: 0o4755,
        uid: 70_000,
        content: "#!",
        attributes: new Map([["security.capability", capability]]),
      },
      { path: "usr/same", type: "link", linkname: "usr/tool" },
      { path: "usr/there", type: "symlink", linkname: "/etc/passwd" },
      { path: "usr/pipe", type: "fifo", mode: 0o600 },
      { path: `${"long/".repeat(50)}ünï`, content: "deep" },
    );
    const tool = lstatSync(join(place.inside, "usr/tool"));
    expect([tool.mode & 0o7777, tool.uid, tool.mtimeMs]).toEqual([0o4755, 70_000, 1_700_000_000_000]);
    expect(lstatSync(join(place.inside, "usr/same")).ino).toBe(tool.ino);
    expect(getAttribute(join(place.inside, "usr/tool"), "security.capability")).toEqual(capability);
    expect(readlinkSync(join(place.inside, "usr/there"))).toBe("/etc/passwd");
    expect(lstatSync(join(place.inside, "usr/pipe")).isFIFO()).toBe(true);
    expect(statSync(join(place.inside, "usr"))).toMatchObject({ mode: 0o42755, gid: 50, mtimeMs: 1.7e12 });
    expect(readFileSync(join(place.inside, `${"long/".repeat(50)}ünï`), "utf8")).toBe("deep");
  });

  test("writes removals and replaced directories as overlayfs does", async () => {
    using place = ground();
    await unpack(
      place.inside,
      { path: "etc", type: "directory" },
      { path: "etc/.wh.gone" },
      { path: "opt", type: "directory" },
      { path: "opt/.wh..wh..opq" },
      { path: ".wh.made" },
      { path: "made/anew", content: "x" },
    );
    const gone = lstatSync(join(place.inside, "etc/gone"));
    expect([gone.isCharacterDevice(), gone.rdev]).toEqual([true, 0]);
    for (const path of ["opt", "made"])
      expect(String(getAttribute(join(place.inside, path), "trusted.overlay.opaque"))).toBe("y");
    expect(readFileSync(join(place.inside, "made/anew"), "utf8")).toBe("x");
  });

  const climbing: readonly [string, readonly Entry[]][] = [
    ["climbs by its name", [{ path: "../witness", content: "!" }]],
    ["climbs in the middle of its name", [{ path: "a/../../witness", content: "!" }]],
    ["is a hard link to outside", [{ path: "x", type: "link", linkname: "../witness" }]],
    ["is a hard link to an absolute path", [{ path: "x", type: "link", linkname: "/etc/passwd" }]],
    [
      "is a hard link through a symbolic link to outside",
      [
        { path: "up", type: "symlink", linkname: ".." },
        { path: "x", type: "link", linkname: "up/witness" },
      ],
    ],
    ["removes its parent", [{ path: "a/.wh..." }, { path: "a/.wh..", content: "" }]],
    [
      "runs in a circle of links",
      [
        { path: "a", type: "symlink", linkname: "b" },
        { path: "b", type: "symlink", linkname: "a" },
        { path: "a/x", content: "!" },
      ],
    ],
  ];
  test.each(climbing)("refuses an entry that %s", async (_, entries) => {
    using place = ground();
    await expect(unpack(place.inside, ...entries)).rejects.toMatchObject({ code: "layer-unsafe" });
    expect(readFileSync(place.witness, "utf8")).toBe("untouched");
    expect(lstatSync(place.witness).nlink).toBe(1);
  });

  test("follows links on the way inside the layer only", async () => {
    using place = ground();
    await unpack(
      place.inside,
      { path: "up", type: "symlink", linkname: "../../.." },
      { path: "up/witness", content: "inside" },
      { path: "abs", type: "symlink", linkname: "/var/lib" },
      { path: "abs/x", content: "y" },
      { path: "/etc/passwd", content: "z" },
    );
    expect(readFileSync(place.witness, "utf8")).toBe("untouched");
    expect(readFileSync(join(place.inside, "witness"), "utf8")).toBe("inside");
    expect(readFileSync(join(place.inside, "var/lib/x"), "utf8")).toBe("y");
    expect(readFileSync(join(place.inside, "etc/passwd"), "utf8")).toBe("z");
  });

  test("replaces a link by what comes later, never what the link points to", async () => {
    using place = ground();
    await unpack(
      place.inside,
      { path: "file", type: "symlink", linkname: place.witness },
      { path: "file", content: "mine" },
    );
    expect(readFileSync(place.witness, "utf8")).toBe("untouched");
    expect(lstatSync(join(place.inside, "file")).isFile()).toBe(true);
  });

  test("leaves out devices and orders to overlayfs, and counts the devices", async () => {
    using place = ground();
    const tar = tarOf({ path: "sda", content: "" }, { path: "plain", content: "x" });
    // The first header made a block device, with its checksum set right.
    tar.write("4", 156, "latin1");
    tar.write("        ", 148, "latin1");
    const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    const report = await applyLayer(bytesOf(tar), place.inside);
    expect(report.skipped).toBe(1);
    expect(existsSync(join(place.inside, "sda"))).toBe(false);
    await unpack(place.inside, {
      path: "d",
      type: "directory",
      attributes: new Map([["trusted.overlay.redirect", Buffer.from("/etc")]]),
    });
    expect(getAttribute(join(place.inside, "d"), "trusted.overlay.redirect")).toBeUndefined();
  });

  test("refuses claims that are too large, and archives that end early", async () => {
    using place = ground();
    const huge = encodeSize(tarOf({ path: "huge" }), 2 ** 43);
    await expect(applyLayer(bytesOf(huge), place.inside)).rejects.toMatchObject({ code: "layer-too-large" });
    const whole = tarOf({ path: "f", content: "x".repeat(3000) });
    await expect(applyLayer(bytesOf(whole.subarray(0, 1500)), place.inside)).rejects.toMatchObject({
      code: "tar-invalid",
    });
    const extension = encodeSize(tarOf({ path: "x".repeat(300) }), 2 ** 31);
    await expect(applyLayer(bytesOf(extension), place.inside)).rejects.toMatchObject({ code: "tar-invalid" });
    await expect(applyLayer(bytesOf(Buffer.alloc(2048, 7)), place.inside)).rejects.toMatchObject({
      code: "tar-invalid",
    });
    await expect(
      applyLayer(bytesOf(tarOf({ path: "a" }, { path: "b" })), place.inside, { maxEntries: 1 }),
    ).rejects.toMatchObject({ code: "layer-too-large" });
  });

  test("writes empty stretches as holes", async () => {
    using place = ground();
    const content = Buffer.concat([Buffer.alloc(8 << 20), Buffer.from("end")]);
    async function* whole() {
      yield tarOf({ path: "sparse", content });
    }
    async function* inChunks() {
      for await (const part of whole())
        for (let at = 0; at < part.length; at += 65_536) yield part.subarray(at, at + 65_536);
    }
    await applyLayer(inChunks(), place.inside);
    const stat = statSync(join(place.inside, "sparse"));
    expect(stat.size).toBe(content.length);
    expect(stat.blocks * 512).toBeLessThan(1 << 20);
    expect(readFileSync(join(place.inside, "sparse")).equals(content)).toBe(true);
  });

  test("that fails half-way leaves nothing in the store", async () => {
    using home = temporary();
    const store = openStore(home.path);
    const broken = tarOf({ path: "a", content: "x" }, { path: "../b" });
    await expect(unpackLayer(store, bytesOf(broken), "none", undefined)).rejects.toThrow();
    await expect(
      unpackLayer(store, bytesOf(tarOf({ path: "a" })), "none", `sha256:${"0".repeat(64)}`),
    ).rejects.toMatchObject({ code: "digest-mismatch" });
    expect(existsSync(join(store.root, "layers"))).toBe(false);
    expect(readdirSync(join(store.root, "staging"))).toEqual([]);
  });
});

describe.skipIf(!asRoot)("packing a layer", () => {
  test("gives the same bytes again from what was unpacked of them", async () => {
    using place = ground();
    await unpack(
      place.inside,
      { path: "b", type: "directory", mode: 0o1777 },
      { path: "b/.wh.x" },
      { path: "b/.wh..wh..opq" },
      { path: "b/file", content: "text", uid: 3_000_000 },
      { path: "b/hard", type: "link", linkname: "b/file" },
      { path: "a", type: "symlink", linkname: "b" },
    );
    const tar = Buffer.concat(await collect(packLayer(place.inside)));
    const again = join(place.path, "again");
    mkdirSync(again);
    await applyLayer(bytesOf(tar), again);
    expect(await diffIdOf(again)).toBe(await diffIdOf(place.inside));
    const names: string[] = [];
    for await (const entry of readTar(bytesOf(tar))) names.push(`${entry.path} ${entry.type}`);
    expect(names).toEqual([
      "a symlink",
      "b/ directory",
      "b/.wh..wh..opq file",
      "b/file file",
      "b/hard link",
      "b/.wh.x file",
    ]);
  });

  test("refuses a directory that cannot stand without the layers below it", async () => {
    using place = ground();
    mkdirSync(join(place.inside, "moved"));
    setAttribute(join(place.inside, "moved"), "trusted.overlay.redirect", Buffer.from("/old"));
    const all = collect(packLayer(place.inside, emptyReport()));
    await expect(all).rejects.toMatchObject({ code: "layer-entangled" });
  });
});

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer[]> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

/** The same tar with another size in its first header. */
function encodeSize(tar: Buffer, size: number): Buffer {
  tar.fill(0, 124, 136);
  tar[124] = 0x80;
  tar.writeUIntBE(size, 130, 6);
  tar.write("        ", 148, "latin1");
  const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return tar;
}
