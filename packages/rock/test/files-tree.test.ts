import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Result } from "@ale/core";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import type { FileError, Sandbox } from "../src/index.ts";
import { closeDriver, file, isOtherDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

function value<T>(result: Result<T, FileError>): T {
  if (!result.ok) throw new Error(`${result.error.type}: ${result.error.path} ${result.error.message ?? ""}`);
  return result.value;
}

const why = async (result: Promise<Result<unknown, FileError>>): Promise<string> => {
  const settled = await result;
  return settled.ok ? "done" : settled.error.type;
};

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What a program of root's says inside. */
const asRoot = async (box: Sandbox, command: string): Promise<string> =>
  (await box.exec({ argv: ["bash", "-c", command], user: "root" })).stdout;

describe.skipIf(obstacle)(suite("files of a sandbox"), () => {
  test("are described as the sandbox sees them", async () => {
    await using box = await sandbox();
    await box.shell.run("printf 12345 > a; chmod 640 a; ln -s a link; mkfifo pipe; mkdir -m 700 d");
    const stat = async (path: string, followLinks = false) =>
      value(await box.files.stat(path, { followLinks }));
    const a = { type: "file", size: 5, mode: 0o640, uid: 1000, gid: 1000 };
    expect(await stat("/work/a")).toMatchObject({ path: "/work/a", ...a });
    expect(await stat("/work/link")).toMatchObject({ type: "symlink", target: "a" });
    expect(await stat("/work/link", true)).toMatchObject({ path: "/work/link", ...a });
    expect(await stat("/work/pipe")).toMatchObject({ type: "fifo" });
    expect(await stat("/work/d/")).toMatchObject({ type: "directory", mode: 0o700 });
    expect(await stat("/")).toMatchObject({ type: "directory" });
    expect(await stat("/etc/passwd")).toMatchObject({ uid: 0, gid: 0 });
    expect((await stat("/work/a")).modifiedMs).toBeGreaterThan(Date.now() - 60_000);
    expect(await why(box.files.stat("/work/none"))).toBe("not-found");
    expect(await why(box.files.stat("/work/a/b"))).toBe("not-a-directory");
    for (const path of ["work/a", "/work/../etc", "/work/a\0b", "/proc/1/environ", "/dev/shm/x", "/sys"])
      expect(await why(box.files.stat(path)), path).toBe("unsafe-path");
  });

  test("are listed in order, flat or all below, with names of any kind", async () => {
    await using box = await sandbox();
    await box.shell.run("mkdir -p b/c b/d; touch b.txt a b/c/é b/z; ln -s / b/up; touch $'new\\nline'");
    const paths = async (path: string, options = {}) =>
      value(await box.files.list(path, options)).entries.map((entry) => entry.path);
    expect(await paths("/work")).toEqual(["/work/a", "/work/b", "/work/b.txt", "/work/new\nline"]);
    expect(await paths("/work/b/", { recursive: true })).toEqual([
      "/work/b/c",
      "/work/b/c/é",
      "/work/b/d",
      "/work/b/up",
      "/work/b/z",
    ]);
    const some = value(await box.files.list("/work", { recursive: true, limit: 3 }));
    expect(some.entries.map((entry) => entry.path)).toEqual(["/work/a", "/work/b", "/work/b/c"]);
    expect(some.more).toBe(true);
    expect(value(await box.files.list("/work", { limit: 4 })).more).toBe(false);
    expect(await why(box.files.list("/work/a"))).toBe("not-a-directory");
  });

  test("are read whole, in part, and through links as a program would", async () => {
    await using box = await sandbox({ files: [file("/work/a", "0123456789")] });
    await box.shell.run("ln -s /work/a link; mkdir d; ln -s /work up; mkfifo pipe; ln -s loop loop");
    const read = async (path: string, options = {}) => text(value(await box.files.read(path, options)));
    expect(await read("/work/a")).toBe("0123456789");
    expect(await read("/work/link", { offset: 3, length: 4 })).toBe("3456");
    expect(await read("/work/up/up/a", { offset: 8 })).toBe("89");
    expect(await read("/work/a", { offset: 8, length: 100 })).toBe("89");
    expect(await read("/work/a", { offset: 100 })).toBe("");
    expect(await why(box.files.read("/work/a", { maxBytes: 9 }))).toBe("too-large");
    expect(await why(box.files.read("/work/d"))).toBe("not-a-file");
    expect(await why(box.files.read("/work/pipe"))).toBe("not-a-file");
    expect(await why(box.files.read("/work/loop"))).toBe("unsafe-path");
    await expect(box.files.read("/work/a", { offset: -1 })).rejects.toMatchObject({ code: "range-invalid" });
  });

  test("are written whole, appended to, and belong to whom they should", async () => {
    await using box = await sandbox();
    const { files } = box;
    expect(value(await files.write("/work/x/y/a", "hello"))).toEqual({ bytes: 5 });
    value(await files.write("/work/x/y/a", " world", { append: true }));
    value(await files.write("/srv/r", new Uint8Array([1, 2]), { user: "root:daemon", mode: 0o4600 }));
    value(await files.write("/work/n", "n", { user: "4000:4001" }));
    expect(
      await asRoot(
        box,
        "cat /work/x/y/a; stat -c ' %U:%G %a' /work/x /work/x/y/a /srv/r; stat -c '%u:%g' /work/n",
      ),
    ).toBe("hello world agent:agent 755\n agent:agent 644\n root:daemon 4600\n4000:4001\n");
    // An old file keeps its owner, and its mode unless one is given.
    await box.exec({ argv: ["bash", "-c", "echo long content > /work/o; chmod 751 /work/o"], user: "root" });
    value(await files.write("/work/o", "new"));
    expect(await asRoot(box, "cat /work/o; stat -c ' %U %a' /work/o")).toBe("new root 751\n");
    value(await files.write("/work/o", "new", { mode: 0o600 }));
    expect(await asRoot(box, "stat -c '%U %a' /work/o")).toBe("root 600\n");
    await expect(files.write("/work/u", "", { user: "nobdy" })).rejects.toMatchObject({
      code: "user-unknown",
      next: "did you mean nobody?",
    });
    expect(await why(files.write("/work", "x"))).toBe("not-a-file");
    expect(await why(files.write("/etc/passwd/x", "x"))).toBe("not-a-directory");
  });

  test("belong to the user that programs run as, where nobody says otherwise", async () => {
    await using box = await sandbox({ user: "daemon" });
    value(await box.files.write("/srv/new/f", "x"));
    expect(await asRoot(box, "stat -c %U /srv/new /srv/new/f")).toBe("daemon\ndaemon\n");
    await using roots = await sandbox({ user: "root" });
    value(await roots.files.write("/srv/new/f", "x"));
    expect(value(await roots.files.stat("/srv/new/f"))).toMatchObject({ uid: 0, gid: 0 });
  });

  test("of the image can be changed, and those of the host's user stay what they were", async () => {
    await using box = await sandbox();
    value(await box.files.write("/etc/motd", "mine"));
    value(await box.files.changeMode("/usr/bin/env", 0o700));
    value(await box.files.changeOwner("/usr/bin/env", "agent"));
    expect(await asRoot(box, "cat /etc/motd; stat -c ' %U %a' /usr/bin/env")).toBe("mine agent 700\n");
    await using other = await sandbox();
    expect(await asRoot(other, "stat -c '%U %a' /usr/bin/env")).toBe("root 755\n");
  });

  test("larger than memory pass through in pieces, without keeping others waiting", async () => {
    await using box = await sandbox({ limits: { memoryBytes: 512 * 2 ** 20, diskBytes: 200 * 2 ** 20 } });
    const piece = Buffer.alloc(2 ** 20, 7);
    const size = 128 * 2 ** 20;
    const before = process.memoryUsage.rss();
    let turns = 0;
    const ticking = setInterval(() => turns++, 5);
    async function* pieces() {
      for (let sent = 0; sent < size; sent += piece.length) yield piece;
    }
    expect(value(await box.files.write("/work/big", pieces()))).toEqual({ bytes: size });
    let received = 0;
    for await (const chunk of value(await box.files.readStream("/work/big"))) received += chunk.length;
    clearInterval(ticking);
    expect(received).toBe(size);
    expect(turns).toBeGreaterThan(3);
    expect(process.memoryUsage.rss() - before).toBeLessThan(size);
    expect(await why(box.files.read("/work/big"))).toBe("too-large");
    expect(value(await box.files.read("/work/big", { offset: size - 2, length: 9 }))).toEqual(
      new Uint8Array([7, 7]),
    );
  });

  test("directories are made with their parents, once or again", async () => {
    await using box = await sandbox();
    value(await box.files.makeDirectory("/work/a/b", { mode: 0o700 }));
    value(await box.files.makeDirectory("/work/a/b", { mode: 0o755 }));
    expect((await box.shell.run("stat -c '%U %a' a a/b")).output).toBe("agent 700\nagent 700\n");
    await box.shell.run("touch f; ln -s nowhere dangling");
    expect(await why(box.files.makeDirectory("/work/f"))).toBe("not-a-directory");
    expect(await why(box.files.makeDirectory("/work/f/x"))).toBe("not-a-directory");
    expect(await why(box.files.makeDirectory("/work/dangling/x"))).toBe("not-a-directory");
  });

  test("are removed alone or with all below, never through a link", async () => {
    await using box = await sandbox();
    await box.shell.run("mkdir -p d/e/f keep; touch d/a d/e/b keep/k; ln -s ../keep d/link; ln -s d toD");
    expect(await why(box.files.remove("/work/d"))).toBe("not-empty");
    value(await box.files.remove("/work/toD", { recursive: true }));
    value(await box.files.remove("/work/d", { recursive: true }));
    expect((await box.shell.run("find . -mindepth 1 | sort")).output).toBe("./keep\n./keep/k\n");
    expect(await why(box.files.remove("/work/d"))).toBe("not-found");
    expect(await why(box.files.remove("/", { recursive: true }))).toBe("unsafe-path");
    // A directory of the image, with names that are no UTF-8 among them.
    await asRoot(box, "touch /usr/share/$'\\xff\\xfe'");
    value(await box.files.remove("/usr/share", { recursive: true }));
    expect(await why(box.files.stat("/usr/share"))).toBe("not-found");
  });

  test("are removed however deep they lie", async () => {
    await using box = await sandbox();
    await box.exec({
      argv: ["perl", "-e", "for (1..3000) { mkdir 'd' and chdir 'd' or die } open F, '>', 'f'"],
      cwd: "/work",
    });
    value(await box.files.remove("/work/d", { recursive: true }));
    expect(await why(box.files.stat("/work/d"))).toBe("not-found");
  });

  test("are moved, and replace only what they are told to", async () => {
    await using box = await sandbox();
    await box.shell.run("echo a > a; echo b > b; mkdir -p d/e full; touch full/x; ln -s a link");
    const { files } = box;
    value(await files.move("/work/link", "/work/d/link"));
    expect(await why(files.move("/work/a", "/work/b"))).toBe("exists");
    value(await files.move("/work/a", "/work/b", { overwrite: true }));
    value(await files.move("/work/d", "/work/g"));
    expect((await box.shell.run("cat b; readlink g/link; ls")).output).toBe("a\na\nb\nfull\ng\n");
    expect(await why(files.move("/work/none", "/work/x"))).toBe("not-found");
    expect(await why(files.move("/work/g", "/work/g/e/in"))).toBe("unsafe-path");
    expect(await why(files.move("/work/g", "/work/full", { overwrite: true }))).toBe("not-empty");
    expect(await why(files.move("/work/b", "/work/g", { overwrite: true }))).toBe("not-a-file");
    expect(await why(files.move("/work/b", "/nowhere/b"))).toBe("not-found");
  });

  test("change owner and mode with all below, but not what links lead to", async () => {
    await using box = await sandbox();
    await box.shell.run("mkdir -p d/e; touch d/e/f; ln -s /etc/passwd d/link");
    value(await box.files.changeOwner("/work/d", "root:daemon", { recursive: true }));
    value(await box.files.changeMode("/work/d", 0o750, { recursive: true }));
    expect(await asRoot(box, "cd /work; stat -c '%U:%G %a' d d/e d/e/f /etc/passwd; stat -c %U d/link")).toBe(
      "root:daemon 750\nroot:daemon 750\nroot:daemon 750\nroot:root 644\nroot\n",
    );
  });

  test.skipIf(isOtherDriver())(
    "on a full disk fail with a reason, and the sandbox stays usable",
    async () => {
      await using box = await sandbox({ limits: { diskBytes: 4 * 2 ** 20 } });
      const { files } = box;
      value(await files.write("/work/old", "old"));
      const flood = (async function* () {
        for (;;) yield Buffer.alloc(256 * 1024);
      })();
      expect(await why(files.write("/work/flood", flood))).toBe("disk-full");
      // A file that never became whole is not there, and its space is free again.
      expect(await why(files.stat("/work/flood"))).toBe("not-found");
      expect(text(value(await files.read("/work/old")))).toBe("old");
      expect((await box.shell.run("echo still > new && cat new")).output).toBe("still\n");
    },
  );

  test("a source that fails leaves no new file and is not taken for the sandbox's fault", async () => {
    await using box = await sandbox();
    async function* broken() {
      yield Buffer.from("half");
      throw new Error("the network is down");
    }
    await expect(box.files.write("/work/a", broken())).rejects.toMatchObject({
      code: "source-failed",
      message: expect.stringContaining("the network is down"),
    });
    expect(await why(box.files.stat("/work/a"))).toBe("not-found");
  });

  test("reading them from outside does not count as reading by the sandbox", async () => {
    await using box = await sandbox({ files: [file("/work/secret", "x=1\n")] });
    const { files } = box;
    await files.read("/work/secret");
    await collect(value(await files.readStream("/work/secret")));
    await collect(value(await files.download("/work")));
    await files.list("/work", { recursive: true });
    await files.stat("/work/secret", { followLinks: true });
    await files.move("/work/secret", "/work/moved");
    await files.move("/work/moved", "/work/secret");
    expect((await box.fingerprint(["/work/secret"]))[0]!.wasRead).toBe(false);
    await box.shell.run("cat secret");
    expect((await box.fingerprint(["/work/secret"]))[0]!.wasRead).toBe(true);
  });

  test("are gone with the sandbox, also in the middle of a stream", async () => {
    const box = await sandbox({ files: [file("/work/a", "x".repeat(2 ** 20))] });
    const stream = value(await box.files.readStream("/work/a"))[Symbol.asyncIterator]();
    const archive = value(await box.files.download("/usr"))[Symbol.asyncIterator]();
    expect((await stream.next()).done).toBe(false);
    expect((await archive.next()).done).toBe(false);
    const open = readdirSync("/proc/self/fd").length;
    await box.destroy();
    await expect(stream.next()).rejects.toMatchObject({ code: "sandbox-gone" });
    await expect(archive.next()).rejects.toMatchObject({ code: "sandbox-gone" });
    expect(readdirSync("/proc/self/fd").length).toBeLessThan(open);
    expect(await why(box.files.read("/work/a"))).toBe("sandbox-gone");
    expect(await why(box.files.write("/work/a", "x"))).toBe("sandbox-gone");
    await expect(
      box.files.watch("/work", {}, AbortSignal.timeout(1_000))[Symbol.asyncIterator]().next(),
    ).rejects.toMatchObject({ code: "sandbox-gone" });
  });
});

describe.skipIf(obstacle)(suite("a hostile sandbox"), () => {
  const outside = mkdtempSync(join(tmpdir(), "ale-outside-"));
  const victim = join(outside, "victim");
  writeFileSync(victim, "untouched");
  afterAll(() => rmSync(outside, { recursive: true }));
  afterEach(() => {
    expect(readdirSync(outside)).toEqual(["victim"]);
    expect(readFileSync(victim, "utf8")).toBe("untouched");
    expect(statSync(victim)).toMatchObject({ uid: 0, nlink: 1 });
  });

  test("makes no call reach outside through links that stand still", async () => {
    await using box = await sandbox();
    await box.shell.run(
      `ln -s ${victim} link; ln -s ${outside} dir; ln -s ../../../../../../../.. back; ln -s /proc/self/root up`,
    );
    const { files } = box;
    const inOutside = ["/work/dir", "/work/link", `/work/back${outside}`, `/work/up${outside}`];
    for (const path of inOutside) {
      expect(await why(files.stat(path, { followLinks: true })), path).not.toBe("done");
      expect(await why(files.read(path)), path).not.toBe("done");
      expect(await why(files.list(path)), path).not.toBe("done");
      expect(await why(files.download(path)), path).not.toBe("done");
      expect(await why(files.changeMode(path, 0o777, { recursive: true })), path).not.toBe("done");
      expect(await why(files.changeOwner(path, "agent", { recursive: true })), path).not.toBe("done");
      expect(await why(files.remove(`${path}/victim`)), path).not.toBe("done");
      expect(await why(files.move(`${path}/victim`, "/work/stolen")), path).not.toBe("done");
      // Where `..` at the root stays there, the directory is made inside.
      await files.write(`${path}/new`, "x");
    }
    // What an absolute link names is made inside, where a program of the sandbox would make it.
    await box.shell.run(`ln -s /work/inside through`);
    expect(await why(files.write("/work/through/f", "x"))).toBe("not-a-directory");
    await box.shell.run("mkdir inside");
    value(await files.write("/work/through/f", "x"));
    expect((await box.shell.run("cat inside/f")).output).toBe("x");
  });

  /** In the sandbox `a` is a directory, a file and links to the outside in turn, and moves about. */
  const flipping = `mkdir -p other; (while :; do
      mkdir a 2>/dev/null; mkdir a/sub 2>/dev/null; echo inside > a/victim; mv a b 2>/dev/null
      ln -sfn ${outside} a; mv b/sub other/ 2>/dev/null; rm -rf b; rm -f a; ln -s ${victim} a; rm -f a; rm -rf other/sub
    done) >/dev/null 2>&1 &`;

  test.skipIf(isOtherDriver())(
    "that renames while files are worked on never gets the host to touch another file",
    async () => {
      await using box = await sandbox({ limits: { cpus: 2, lifetimeMs: 60_000 } });
      await box.shell.run(flipping);
      const { files } = box;
      const calls: ((n: number) => Promise<unknown>)[] = [
        () => files.stat("/work/a", { followLinks: true }),
        () => files.read("/work/a/victim"),
        () => files.list("/work", { recursive: true }),
        () => files.write("/work/a/victim", "from outside"),
        () => files.write("/work/a", "from outside"),
        (n) => files.makeDirectory(`/work/a/new${n}`),
        () => files.remove("/work/a", { recursive: true }),
        () => files.remove("/work/a/victim"),
        () => files.move("/work/a", "/work/c", { overwrite: true }),
        () => files.move("/work/a/victim", "/work/d", { overwrite: true }),
        () => files.changeMode("/work/a", 0o777, { recursive: true }),
        () => files.changeMode("/work", 0o755, { recursive: true }),
        () => files.changeOwner("/work/a", "agent", { recursive: true }),
        () => files.changeOwner("/work", "agent", { recursive: true }),
        async () => {
          const archive = await files.download("/work");
          if (archive.ok) expect((await collect(archive.value)).includes("untouched")).toBe(false);
        },
        async () => {
          const stream = await files.readStream("/work/a/victim");
          if (stream.ok) expect((await collect(stream.value)).includes("untouched")).toBe(false);
        },
      ];
      const until = Date.now() + 4_000;
      let rounds = 0;
      for (; Date.now() < until; rounds++)
        for (const call of calls)
          await call(rounds).then((result) => {
            const read = result as Result<unknown, FileError> | undefined;
            if (read?.ok && read.value instanceof Uint8Array) expect(text(read.value)).not.toBe("untouched");
          });
      expect(rounds).toBeGreaterThan(3);
    },
  );

  test("that keeps filling a directory does not keep its removal going for ever", async () => {
    await using box = await sandbox({ limits: { cpus: 2 } });
    await box.shell.run(
      "mkdir d; (while :; do mkdir -p d/$RANDOM/$RANDOM; done) >/dev/null 2>&1 & sleep 0.1",
    );
    expect(["done", "not-empty"]).toContain(await why(box.files.remove("/work/d", { recursive: true })));
    await box.killAgentProcesses();
    await sleep(10);
    await box.files.remove("/work/d", { recursive: true });
    expect(await why(box.files.stat("/work/d"))).toBe("not-found");
  });
});
