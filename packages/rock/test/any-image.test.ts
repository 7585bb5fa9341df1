import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { removeTree } from "../src/host/mounts.ts";
import type { LocalImage } from "../src/image/local-image.ts";
import { interpreterOf } from "../src/inside/elf.ts";
import { withoutPreload } from "../src/inside/toolbox.ts";
import { closeDriver, driver, obstacle, spec, suite } from "./support.ts";

const BUSYBOX = "/bin/busybox";
const directories: string[] = [];

afterAll(async () => {
  await closeDriver();
  for (const directory of directories) removeTree(directory);
});

/** An image of one layer that `fill` puts something into. */
function image(fill: (root: string) => void, config: Partial<LocalImage["config"]> = {}): LocalImage {
  const root = mkdtempSync(join(tmpdir(), "ale-image-"));
  chmodSync(root, 0o755);
  directories.push(root);
  fill(root);
  const rest = { env: {}, workdir: "", user: "", entrypoint: [], command: [], exposedPorts: [] };
  return { name: "test/image", digest: "test", layers: [root], config: { ...rest, ...config } };
}

function putBusybox(root: string): void {
  for (const name of ["bin", "tmp"]) mkdirSync(join(root, name));
  copyFileSync(BUSYBOX, join(root, "bin/busybox"));
  for (const applet of ["sh", "cat", "ls", "id", "echo", "sleep", "true"])
    symlinkSync("busybox", join(root, "bin", applet));
}

const bare = { workdir: undefined } as const;

async function boxOf(local: LocalImage, more: Parameters<typeof spec>[0] = {}) {
  const { workdir: _, ...rest } = spec({ ...bare, ...more } as Parameters<typeof spec>[0]);
  return (await driver()).createFrom(
    local,
    more.workdir === undefined ? rest : { ...rest, workdir: more.workdir },
  );
}

const withBusybox =
  obstacle ?? (existsSync(BUSYBOX) ? undefined : "no static busybox (apt install busybox-static)");

describe.skipIf(withBusybox)(suite("an image of nothing but a static busybox"), () => {
  test("has sessions with all that they can do, from a bash of ours", async () => {
    await using box = await boxOf(image(putBusybox), { env: { A: "1" } });
    expect(
      (await box.shell.run("[[ $BASH_VERSION == [5-9]* ]] && echo $A; cd /tmp; f() { echo $A; }")).output,
    ).toBe("1\n");
    expect((await box.shell.run("pwd; f; id -u; (exit 7)")).output).toBe("/tmp\n1\n0\n");
    const running = box.shell.run("sleep 60");
    await box.exec({ argv: ["true"] });
    await box.shell.interrupt();
    expect(await running).toMatchObject({ interrupted: true, exitCode: 130, shellRestarted: false });
  });

  test("runs programs of its own, as any user, and streams", async () => {
    await using box = await boxOf(
      image(putBusybox, { user: "12:34", env: { FROM: "image" }, workdir: "/tmp" }),
    );
    const started = await box.start({ argv: ["sh", "-c", "cat; id; echo $FROM; pwd"], stdin: true });
    await started.write("in\n");
    await started.closeStdin();
    let out = "";
    for await (const chunk of started.stdout) out += Buffer.from(chunk).toString();
    expect(out).toBe("in\nuid=12 gid=34\nimage\n/tmp\n");
    expect((await box.exec({ argv: ["/bin/sh", "-c", "echo $0 $$"] })).stdout).toMatch(/^\/bin\/sh \d+\n$/);
  });

  test("keeps nothing of ours, and is not told where ours comes from", async () => {
    await using box = await boxOf(image(putBusybox));
    const { output } = await box.shell.run("ls /; cat /proc/self/mountinfo; type perl");
    expect(output).not.toContain(process.cwd());
    expect(output).not.toMatch(/\.ale\/(images|inside)/);
    expect(output).toContain("perl: not found");
    expect((await box.shell.run("echo x > /dev/.ale/perl")).output).toContain("Read-only file system");
  });
});

describe.skipIf(withBusybox)(suite("an image of nothing but one static program"), () => {
  test("runs it, and has a shell of ours", async () => {
    const box = await boxOf(
      image((root) => copyFileSync(BUSYBOX, join(root, "busybox"))),
      { workdir: "/made" },
    );
    await using _ = box;
    expect((await box.exec({ argv: ["/busybox", "echo", "hello"] })).stdout).toBe("hello\n");
    expect((await box.shell.run("pwd; echo $UID; /busybox id -u")).output).toBe("/made\n0\n0\n");
    expect((await box.exec({ argv: ["sh"] })).exitCode).toBe(127);
  });
});

describe.skipIf(withBusybox)(suite("an image that means ill"), () => {
  const counterfeit = (root: string): void => {
    putBusybox(root);
    for (const path of ["usr/bin", "etc", "lib", "lib64", "dev/.ale"])
      mkdirSync(join(root, path), { recursive: true });
    for (const path of ["usr/bin/perl", "dev/.ale/perl", "dev/.ale/ld.so", "bin/bash"]) {
      writeFileSync(join(root, path), "#!/bin/sh\necho forged\n");
      chmodSync(join(root, path), 0o755);
    }
    writeFileSync(join(root, "etc/ld.so.preload"), "/lib/evil.so\n");
    writeFileSync(join(root, "lib/evil.so"), "no library");
  };

  test("decides nothing about PID 1: neither its perl, nor its loader's settings, nor its /dev", async () => {
    await using box = await boxOf(image(counterfeit));
    expect((await box.exec({ argv: ["/bin/busybox", "echo", "genuine"] })).stdout).toBe("genuine\n");
    const { stdout } = await box.exec({ argv: ["/bin/busybox", "ps", "-o", "args"] });
    expect(stdout).toMatch(/^init$/m);
  });

  test("has sessions of our bash where its own is none", async () => {
    await using box = await boxOf(image(counterfeit));
    expect(await box.shell.run("echo $((6 * 7)); [[ $BASH_VERSION == [5-9]* ]]")).toMatchObject({
      exitCode: 0,
      output: "42\n",
    });
  });
});

describe("programs of the host", () => {
  test("name their loader, static ones and other files none", () => {
    expect(interpreterOf(process.execPath)).toMatch(/^\/.*ld/);
    expect(interpreterOf(import.meta.filename)).toBeUndefined();
    if (existsSync(BUSYBOX)) expect(interpreterOf(BUSYBOX)).toBeUndefined();
  });

  test("are given a loader that takes no orders from /etc/ld.so.preload", () => {
    const loader = Buffer.from("before /etc/ld.so.preload\0 between /etc/ld.so.preload\0 after");
    expect(withoutPreload(loader).toString()).toBe(
      "before /dev/.ale/preload.\0 between /dev/.ale/preload.\0 after",
    );
  });
});
