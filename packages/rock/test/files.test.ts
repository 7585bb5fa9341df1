import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { closeDriver, driver, file, isOtherDriver, obstacle, sandbox, spec, suite } from "./support.ts";

afterAll(closeDriver);

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

describe.skipIf(obstacle)(suite("files from outside"), () => {
  test("the spec's files are there before any process, with content, mode and owner", async () => {
    await using box = await sandbox({
      files: [
        file("/work/deep/er/a.txt", "a\n"),
        file("/usr/local/bin/tool", "#!/bin/sh\necho tool\n", { mode: 0o755, owner: "root" }),
        file("/etc/secret", "s", { mode: 0o600, owner: "root" }),
      ],
    });
    const { output } = await box.shell.run(
      "cat deep/er/a.txt; tool; cat /etc/secret; stat -c '%U %a' deep deep/er/a.txt /usr/local/bin/tool /etc/secret /etc",
    );
    expect(output).toBe(
      "a\ntool\ncat: /etc/secret: Permission denied\nagent 755\nagent 644\nroot 755\nroot 600\nroot 755\n",
    );
  });

  test("written files are seen inside, and what is written inside is read outside", async () => {
    await using box = await sandbox();
    expect(
      await box.writeFiles([file("/tests/run.sh", "echo ran\n", { owner: "root", mode: 0o700 })]),
    ).toMatchObject({
      ok: true,
    });
    expect((await box.exec({ argv: ["bash", "/tests/run.sh"], user: "root" })).stdout).toBe("ran\n");
    expect((await box.shell.run("cat /tests/run.sh")).exitCode).toBe(1);
    await box.shell.run("printf 'a\\000b' > out");
    const read = await box.readFile("/work/out");
    expect(read.ok && [...read.value]).toEqual([97, 0, 98]);
  });

  test("overwriting keeps nothing of the longer file before", async () => {
    await using box = await sandbox({ files: [file("/work/a", "a long content", { mode: 0o777 })] });
    await box.writeFiles([file("/work/a", "short", { mode: 0o640, owner: "root" })]);
    expect(
      (await box.exec({ argv: ["bash", "-c", "cat /work/a; stat -c ' %U %a' /work/a"], user: "root" }))
        .stdout,
    ).toBe("short root 640\n");
  });

  test("what cannot be read says why", async () => {
    await using box = await sandbox({ files: [file("/work/big", "x".repeat(1_000))] });
    await box.shell.run("mkdir dir; mkfifo pipe; ln -s /etc/passwd link; ln -s / all");
    const why = async (path: string, maxBytes?: number): Promise<string> => {
      const read = await box.readFile(path, maxBytes === undefined ? {} : { maxBytes });
      return read.ok ? "read" : read.error.type;
    };
    expect(await why("/work/none")).toBe("not-found");
    expect(await why("/work/dir")).toBe("not-a-file");
    expect(await why("/work/pipe")).toBe("not-a-file");
    expect(await why("/work/big", 999)).toBe("too-large");
    expect(await why("/work/big", 1_000)).toBe("read");
    expect(await why("/work/link")).toBe("unsafe-path");
    expect(await why("/work/all/etc/passwd")).toBe("unsafe-path");
    expect(await why("/work/../etc/passwd")).toBe("unsafe-path");
    expect(await why("etc/passwd")).toBe("unsafe-path");
  });

  test("links planted by the agent lead nowhere outside", async () => {
    const outside = mkdtempSync(join(tmpdir(), "ale-outside-"));
    const victim = join(outside, "victim");
    writeFileSync(victim, "untouched");
    try {
      await using box = await sandbox();
      await box.shell.run(
        `ln -s ${victim} link; ln -s ${outside} dir; ln -s /proc/1/root/etc up; ln -s ../../../../.. back`,
      );
      for (const path of [
        "/work/link",
        "/work/dir/victim",
        "/work/dir/new",
        "/work/up/x",
        `/work/back${victim}`,
      ]) {
        const written = await box.writeFiles([file(path, "reached")]);
        expect(written, path).toMatchObject({ ok: false, error: { type: "unsafe-path", path } });
        expect((await box.fingerprint([path]))[0]?.sha256, path).toBeNull();
      }
      expect(readFileSync(victim, "utf8")).toBe("untouched");
    } finally {
      rmSync(outside, { recursive: true });
    }
  });

  test("a hard link to another file, a pipe or a socket is not written to", async () => {
    await using box = await sandbox({ files: [file("/work/mine", "mine")] });
    await box.shell.run("ln mine other; mkfifo pipe; mkdir dir");
    for (const path of ["/work/other", "/work/pipe", "/work/dir"])
      expect(await box.writeFiles([file(path, "x")]), path).toMatchObject({
        ok: false,
        error: { type: "unsafe-path" },
      });
    const mine = await box.readFile("/work/mine");
    expect(mine.ok && text(mine.value)).toBe("mine");
  });

  test("a path that flips between directory and link never leads outside", async () => {
    const outside = mkdtempSync(join(tmpdir(), "ale-outside-"));
    try {
      await using box = await sandbox();
      await box.shell.run(`mkdir real; (while :; do
        ln -sfn ${outside} a; rm -f a; mkdir a; rmdir a 2>/dev/null || rm -rf a; done) >/dev/null 2>&1 &`);
      for (let i = 0; i < 300; i++) await box.writeFiles([file("/work/a/f", "x")]).catch(() => {});
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toBe("");
      expect(() => readFileSync(join(outside, "f"))).toThrow();
    } finally {
      rmSync(outside, { recursive: true });
    }
  });

  test.skipIf(isOtherDriver())("a full disk is an error of the write, with a way out", async () => {
    await using box = await sandbox({ limits: { diskBytes: 2 ** 20 } });
    await expect(box.writeFiles([file("/work/a", "x".repeat(2 ** 21))])).rejects.toMatchObject({
      code: "sandbox-disk-full",
    });
  });

  test.each([
    ["a workdir that is no absolute path", { workdir: "work" }],
    ["a file path that climbs", { files: [file("/work/../../x", "")] }],
    ["a file under a file of the image", { files: [file("/etc/passwd/x", "")] }],
  ])("refuses a spec with %s", async (_, more) => {
    await expect((await driver()).create(spec(more))).rejects.toMatchObject({ code: "spec-invalid" });
  });
});

describe.skipIf(obstacle)(suite("fingerprints"), () => {
  const one = async (box: Awaited<ReturnType<typeof sandbox>>, path: string) =>
    (await box.fingerprint([path]))[0]!;

  test("tell content, mode, size and absence", async () => {
    await using box = await sandbox({ files: [file("/work/a", "hello\n", { mode: 0o640 })] });
    expect(await one(box, "/work/a")).toEqual({
      path: "/work/a",
      exists: true,
      sha256: "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
      mode: 0o640,
      size: 6,
      wasRead: false,
    });
    expect(await one(box, "/work/b")).toMatchObject({ exists: false, sha256: null, mode: null, size: null });
  });

  test("of a directory change with every name, content and mode below it", async () => {
    await using box = await sandbox({ files: [file("/work/d/a", "1"), file("/work/d/e/b", "2")] });
    const seen = [await one(box, "/work/d")];
    for (const change of ["echo 3 > d/e/b", "chmod 600 d/a", "mv d/a d/c", "mkdir d/f", "ln -s / d/g"]) {
      await box.shell.run(change);
      seen.push(await one(box, "/work/d"));
    }
    expect(new Set(seen.map((print) => print.sha256)).size).toBe(6);
    expect(await one(box, "/work/d")).toEqual(seen.at(-1));
  });

  test.each([
    "cat secret",
    "grep -r x .",
    "cp secret /tmp/s",
    ". ./secret",
    "mv secret /tmp/s; cat /tmp/s; mv /tmp/s secret",
    "ln secret s2; cat s2",
    "dd if=secret iflag=noatime status=none",
    "cat secret; touch -a -d @86400 secret",
    "while read line; do echo $line; done < secret",
    "perl -e 'open F, q(<), q(secret); print <F>'",
  ])("notice a read by `%s`", async (command) => {
    await using box = await sandbox({ files: [file("/work/secret", "x=1\n")] });
    expect((await one(box, "/work/secret")).wasRead).toBe(false);
    await box.shell.run(command);
    expect((await one(box, "/work/secret")).wasRead).toBe(true);
  });

  test("of a file of root's notice a read by its access time alone", async () => {
    await using box = await sandbox({ files: [file("/srv/key", "k", { owner: "root" })] });
    await box.shell.run("dd if=/srv/key iflag=noatime status=none; touch -a -d @86400 /srv/key");
    expect((await one(box, "/srv/key")).wasRead).toBe(false);
    await box.shell.run("cat /srv/key");
    expect((await one(box, "/srv/key")).wasRead).toBe(true);
  });

  test.each([
    "ls -la; stat secret; test -r secret; find . -type f",
    "chmod 600 secret",
    "echo y > secret",
    "touch secret",
  ])("do not take `%s` for a read", async (command) => {
    await using box = await sandbox({ files: [file("/work/secret", "x=1\n")] });
    await box.shell.run(command);
    expect((await one(box, "/work/secret")).wasRead).toBe(false);
  });

  test("and reads from outside leave no trace", async () => {
    await using box = await sandbox({ files: [file("/work/secret", "x=1\n")] });
    await box.readFile("/work/secret");
    await box.fingerprint(["/work/secret", "/work"]);
    expect((await one(box, "/work/secret")).wasRead).toBe(false);
  });

  test("stop at a bound in a tree that is made to be endless", async () => {
    await using box = await sandbox();
    await box.shell.run("d=.; for i in $(seq 300); do d=$d/d; done; mkdir -p $d");
    expect((await one(box, "/work")).sha256).toMatch(/^[0-9a-f]{64}$/);
  });
});
