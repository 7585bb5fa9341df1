import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Result } from "@ale/core";
import { pack } from "tar-stream";
import { afterAll, describe, expect, test } from "vitest";
import type { FileError } from "../src/index.ts";
import { closeDriver, file, isOtherDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

function value<T>(result: Result<T, FileError>): T {
  if (!result.ok) throw new Error(`${result.error.type}: ${result.error.path} ${result.error.message ?? ""}`);
  return result.value;
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

interface Entry {
  readonly name: string;
  readonly type?: "file" | "symlink" | "link" | "directory" | "fifo" | "character-device";
  readonly content?: string;
  readonly linkname?: string;
  readonly mode?: number;
}

function tarOf(entries: readonly Entry[]): Promise<Buffer> {
  const archive = pack();
  for (const { content = "", ...header } of entries) {
    if (header.type === undefined || header.type === "file") archive.entry(header, content);
    else archive.entry(header);
  }
  archive.finalize();
  return collect(archive as AsyncIterable<Uint8Array>);
}

async function* inPieces(bytes: Uint8Array, size = 1_000) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function scratch(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "ale-archive-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

const tar = (...argv: string[]): Buffer => execFileSync("tar", argv, { maxBuffer: 2 ** 28 });

describe.skipIf(obstacle)(suite("an uploaded archive"), () => {
  test("of GNU tar, plain or gzip, arrives as it was packed", async () => {
    using made = scratch();
    execFileSync(
      "bash",
      [
        "-c",
        "mkdir -p src/deep/empty src/bin; echo a > src/a; printf '#!/bin/sh\\n' > src/bin/x; chmod 755 src/bin/x; ln -s ../a src/bin/link; ln src/a src/hard; touch -d @1000000000 src/a; head -c 300000 /dev/urandom > src/big; touch src/$(printf 'n%.0s' $(seq 120))",
      ],
      { cwd: made.path },
    );
    const bytes = tar("-C", made.path, "-cf", "-", "src");
    await using box = await sandbox();
    for (const [where, archive] of [
      ["/work/plain", bytes],
      ["/work/zipped", gzipSync(bytes)],
    ] as const) {
      const done = value(await box.files.upload(where, inPieces(archive)));
      expect(done.entries).toBeGreaterThanOrEqual(9);
      const seen = await box.shell.run(
        `cd ${where}/src && cat a && readlink bin/link && stat -c '%a %U %h %Y' a bin/x && ls deep | wc -l && ls n* | wc -c && sha256sum < big`,
      );
      const sum = execFileSync("bash", ["-c", "sha256sum < src/big"], { cwd: made.path, encoding: "utf8" });
      expect(seen.output).toBe(
        `a\n../a\n644 agent 2 1000000000\n${seen.output.split("\n")[3]}\n1\n121\n${sum}`,
      );
      expect(seen.output.split("\n")[3]).toMatch(/^755 agent 1 /);
    }
  });

  test("replaces files and links, keeps directories, and belongs to whom it should", async () => {
    await using box = await sandbox({ files: [file("/work/d/keep", "keep"), file("/work/d/a", "old")] });
    await box.shell.run("ln -s keep d/link; chmod 700 d");
    const archive = await tarOf([
      { name: "./", type: "directory" },
      { name: "d/", type: "directory", mode: 0o755 },
      { name: "d/a", content: "new", mode: 0o6711 },
      { name: "./d/link", content: "a file now" },
    ]);
    expect(value(await box.files.upload("/work", inPieces(archive), { user: "root" }))).toEqual({
      entries: 4,
      bytes: 13,
    });
    const { stdout } = await box.exec({
      argv: ["bash", "-c", "cd /work/d; cat a keep link; stat -c ' %n %a %U' . a link; ls -A"],
      user: "root",
    });
    expect(stdout).toBe("newkeepa file now . 700 agent\n a 711 root\n link 644 root\na\nkeep\nlink\n");
  });

  test.each<[string, readonly Entry[]]>([
    ["a name that climbs", [{ name: "../evil", content: "x" }]],
    ["a name that climbs later", [{ name: "a/../../evil", content: "x" }]],
    ["an absolute name", [{ name: "/tmp/evil", content: "x" }]],
    [
      "a file through a link of its own that leaves",
      [
        { name: "out", type: "symlink", linkname: "/tmp" },
        { name: "out/evil", content: "x" },
      ],
    ],
    [
      "a file through a relative link that leaves",
      [
        { name: "out", type: "symlink", linkname: "../tmp" },
        { name: "out/evil", content: "x" },
      ],
    ],
    [
      "a directory through a link that leaves",
      [
        { name: "out", type: "symlink", linkname: "/tmp" },
        { name: "out/evil", type: "directory" },
      ],
    ],
    ["a hard link to a file outside", [{ name: "h", type: "link", linkname: "../etc/passwd" }]],
    [
      "a hard link through a link",
      [
        { name: "out", type: "symlink", linkname: "/etc" },
        { name: "h", type: "link", linkname: "out/passwd" },
      ],
    ],
    [
      "a hard link to a link",
      [
        { name: "out", type: "symlink", linkname: "/etc/passwd" },
        { name: "h", type: "link", linkname: "out" },
      ],
    ],
    ["a device", [{ name: "null", type: "character-device" }]],
    ["a pipe", [{ name: "pipe", type: "fifo" }]],
    [
      "a file over a directory",
      [
        { name: "d", type: "directory" },
        { name: "d", content: "x" },
      ],
    ],
    [
      "a directory over a file",
      [
        { name: "f", content: "x" },
        { name: "f", type: "directory" },
      ],
    ],
    ["a link to nothing", [{ name: "h", type: "link", linkname: "none" }]],
  ])("is refused for %s", async (_, entries) => {
    await using box = await sandbox();
    const first = { name: "first", content: "fine" };
    const refused = await box.files.upload("/work", inPieces(await tarOf([first, ...entries])));
    expect(refused).toMatchObject({ ok: false, error: { type: "bad-archive", path: "/work" } });
    expect(!refused.ok && refused.error.message).toMatch(/; [1-2] entr(y is|ies are) in place$/);
    expect(
      (await box.shell.run("cat first; find / -xdev -name '*evil*' -o -name '.ale-*' 2>/dev/null")).output,
    ).toBe("fine");
  });

  test("with a link that leaves is fine as long as nothing goes through it", async () => {
    await using box = await sandbox();
    const archive = await tarOf([
      { name: "etc", type: "symlink", linkname: "/etc" },
      { name: "here", type: "symlink", linkname: "d" },
      { name: "d", type: "directory" },
      { name: "here/f", content: "through a link that stays" },
    ]);
    value(await box.files.upload("/work", inPieces(archive)));
    expect((await box.shell.run("readlink etc; cat d/f")).output).toBe("/etc\nthrough a link that stays");
  });

  test.each<[string, (archive: Buffer) => AsyncIterable<Uint8Array>]>([
    ["breaks off in the middle of a file", (bytes) => inPieces(bytes.subarray(0, 512 + 512 + 512 + 700))],
    ["breaks off between two files", (bytes) => inPieces(bytes.subarray(0, 1024))],
    ["is nothing at all", () => inPieces(Buffer.alloc(0))],
    ["is no archive", () => inPieces(Buffer.from("hello ".repeat(1_000)))],
    ["breaks off in its compression", (bytes) => inPieces(gzipSync(bytes).subarray(0, -30))],
    [
      "breaks off in its compression, in the middle of a file",
      (bytes) => inPieces(gzipSync(bytes, { level: 0 }).subarray(0, 512 + 512 + 512 + 700)),
    ],
    [
      "comes from somebody who hangs up",
      async function* (bytes) {
        yield bytes.subarray(0, 512 + 512 + 512 + 700);
        throw new Error("connection reset");
      },
    ],
  ])("that %s leaves whole files only, and says so", async (_, damaged) => {
    await using box = await sandbox();
    const archive = await tarOf([
      { name: "one", content: "1" },
      { name: "two", content: "2".repeat(2_000) },
    ]);
    const refused = await box.files.upload("/work", damaged(archive));
    expect(refused).toMatchObject({ ok: false, error: { type: "bad-archive" } });
    const there = (await box.shell.run("find . -type f -size +0 | sort")).output;
    expect(["", "./one\n", "./one\n./two\n"]).toContain(there);
    const count = there.split("\n").length - 1;
    expect(!refused.ok && refused.error.message).toContain(`; ${count} entr`);
    expect((await box.shell.run("ls -A | grep -c ale-")).output).toBe("0\n");
  });

  test.skipIf(isOtherDriver())("that does not fit is disk-full, and the sandbox stays usable", async () => {
    await using box = await sandbox({ limits: { diskBytes: 4 * 2 ** 20 } });
    // 100 MB of zeros in 100 KB: what it costs is what it becomes.
    const bomb = gzipSync(
      await tarOf([
        { name: "small", content: "s" },
        { name: "big", content: "\0".repeat(1e8) },
      ]),
    );
    const refused = await box.files.upload("/work", inPieces(bomb));
    expect(refused).toMatchObject({ ok: false, error: { type: "disk-full" } });
    expect(!refused.ok && refused.error.message).toContain("1 entry is in place");
    expect((await box.shell.run("ls -A; echo ok > new && cat new")).output).toBe("small\nok\n");
  });
});

describe.skipIf(obstacle)(suite("a downloaded archive"), () => {
  test("is what GNU tar unpacks to the same files", async () => {
    await using box = await sandbox();
    const long = "n".repeat(120);
    await box.shell.run(
      `mkdir -p d/deep/empty; echo a > d/a; chmod 750 d/a; ln -s ../../etc/passwd d/link; mkfifo d/pipe; touch d/${long} d/é; touch -d @1000000000 d/a; head -c 70000 /dev/urandom > d/bin; ln -s ${"t".repeat(150)} d/far`,
    );
    const sum = (await box.shell.run("sha256sum < d/bin")).output;
    using made = scratch();
    const path = join(made.path, "a.tar");
    writeFileSync(path, await collect(value(await box.files.download("/work/d"))));
    expect(tar("-tf", path).toString().split("\n")[0]).toBe("d/");
    tar("-C", made.path, "-xpf", path);
    const at = join(made.path, "d");
    expect(readdirSync(at).sort()).toEqual(["a", "bin", "deep", "far", "link", long, "é"].sort());
    expect(readFileSync(join(at, "a"), "utf8")).toBe("a\n");
    expect(statSync(join(at, "a"))).toMatchObject({ mtimeMs: 1e12, uid: 1000, gid: 1000 });
    expect(statSync(join(at, "a")).mode & 0o7777).toBe(0o750);
    expect(
      execFileSync("bash", ["-c", "sha256sum < d/bin; readlink d/link; readlink d/far | wc -c"], {
        cwd: made.path,
        encoding: "utf8",
      }),
    ).toBe(`${sum}../../etc/passwd\n151\n`);
  });

  test("is of a file as well, also where a link leads to it, and goes back up", async () => {
    await using box = await sandbox({ files: [file("/work/a", "content")] });
    await box.shell.run("ln -s a link; mkfifo pipe");
    const archive = value(await box.files.download("/work/link"));
    value(await box.files.upload("/work/copy", archive));
    expect((await box.shell.run("cat copy/link")).output).toBe("content");
    expect(await box.files.download("/work/none")).toMatchObject({ ok: false, error: { type: "not-found" } });
    await expect(collect(value(await box.files.download("/work/pipe")))).rejects.toMatchObject({
      code: "not-a-file",
    });
  });

  test("holds only the data of a file with holes, both ways", async () => {
    await using box = await sandbox();
    await box.shell.run(
      "truncate -s 1T s; printf start | dd of=s conv=notrunc status=none; printf middle | dd of=s bs=1M seek=1000 conv=notrunc status=none; truncate -s 2G empty",
    );
    const archive = await collect(value(await box.files.download("/work/s")));
    expect(archive.length).toBeLessThan(100_000);
    using made = scratch();
    writeFileSync(join(made.path, "s.tar"), archive);
    tar("-C", made.path, "-xf", join(made.path, "s.tar"));
    expect(statSync(join(made.path, "s"))).toMatchObject({ size: 2 ** 40 });
    expect(
      execFileSync("bash", ["-c", "head -c 5 s; tail -c +1048576001 s | head -c 6"], {
        cwd: made.path,
        encoding: "utf8",
      }),
    ).toBe("startmiddle");
    value(await box.files.upload("/work/back", inPieces(archive)));
    const empty = await collect(value(await box.files.download("/work/empty")));
    value(await box.files.upload("/work/back", inPieces(empty)));
    expect(
      (
        await box.shell.run(
          "cd back; stat -c '%s %b' s empty | tr '\\n' ' '; head -c 5 s; tail -c +1048576001 s | head -c 6",
        )
      ).output,
    ).toMatch(/^1099511627776 \d{1,2} 2147483648 0 startmiddle$/);
    // GNU tar's own way of packing holes is understood as well.
    const gnu = tar("-C", made.path, "--format=posix", "-Scf", "-", "s");
    value(await box.files.upload("/work/gnu", inPieces(gnu)));
    expect((await box.shell.run("cd ../gnu; stat -c %s s; head -c 5 s")).output).toBe("1099511627776\nstart");
  });

  test("stays well-formed while files grow, shrink, come and go", async () => {
    await using box = await sandbox({ limits: { cpus: 2, memoryBytes: 2 ** 29, diskBytes: 2 ** 27 } });
    await box.shell.run(
      "mkdir d; (while :; do head -c 900000 /dev/zero > d/a; : > d/a; echo x >> d/log; mkdir d/n; touch d/n/f; rm -r d/n; done) >/dev/null 2>&1 & sleep 0.1",
    );
    using made = scratch();
    const path = join(made.path, "a.tar");
    for (let round = 0; round < 30; round++) {
      writeFileSync(path, await collect(value(await box.files.download("/work/d"))));
      expect(() => tar("-tf", path)).not.toThrow();
    }
  });

  test("of the whole root filesystem is whole", async () => {
    await using box = await sandbox();
    using made = scratch();
    const path = join(made.path, "root.tar");
    const archive = value(await box.files.download("/"));
    writeFileSync(path, await collect(archive));
    const names = tar("-tf", path).toString().split("\n");
    expect(names).toContain("etc/passwd");
    expect(names.length).toBeGreaterThan(3_000);
  });

  test("that nobody reads to its end holds nothing", async () => {
    await using box = await sandbox();
    const before = readdirSync("/proc/self/fd").length;
    for await (const _ of value(await box.files.download("/usr"))) break;
    for await (const _ of value(await box.files.readStream("/usr/bin/perl"))) break;
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});
