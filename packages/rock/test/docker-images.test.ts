import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mount, unmount } from "../src/host/native.ts";
import { type DockerDriver, defaultHome, openDockerDriver, pushImage } from "../src/index.ts";
import { engineObstacle, startEngine, type TestEngine } from "./engine.ts";
import {
  CREDENTIALS,
  makeImage,
  type RunningRegistry,
  registryTool,
  startRegistry,
  tarOf,
  temporary,
} from "./image-support.ts";
import { spec } from "./support.ts";

/** Images that a container engine gets from a registry, and sandboxes of one that has neither perl nor bash. */

const BUSYBOX = "/bin/busybox";
const missing =
  engineObstacle ??
  (registryTool === undefined ? "docker-registry is not installed" : undefined) ??
  (existsSync(BUSYBOX) ? undefined : "no static busybox (apt install busybox-static)");

const APPLETS = ["sh", "cat", "ls", "id", "echo", "sleep", "true"];
const layer = (): Buffer =>
  tarOf(
    ...["bin", "etc", "srv"].map((path) => ({ path, type: "directory", mode: 0o755 }) as const),
    { path: "etc/passwd", content: "root:x:0:0::/:/bin/sh\nagent:x:1000:1000::/srv:/bin/sh\n" },
    { path: "bin/busybox", mode: 0o755, content: readFileSync(BUSYBOX) },
    ...APPLETS.map((name) => ({ path: `bin/${name}`, type: "symlink", linkname: "busybox" }) as const),
  );

describe.skipIf(missing)(`images at an engine ${missing ? `(skipped: ${missing})` : ""}`, () => {
  let registry: RunningRegistry;
  let engine: TestEngine;
  let driver: DockerDriver;
  let image: string;
  let digest: string;
  beforeAll(async () => {
    registry = await startRegistry({ auth: true });
    engine = await startEngine({ insecure: [registry.host] });
    driver = openDockerDriver({ socket: engine.socket, unenforced: ["disk"] });
    image = `${registry.host}/team/busybox:1`;
    using home = temporary();
    await makeImage(home.path, "mine", [layer()]);
    ({ digest } = await pushImage(home.path, "mine", image, { dockerConfig: null, auth: CREDENTIALS }));
  }, 60_000);
  afterAll(async () => {
    await driver?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
  });

  test("are refused by a registry with its own words", async () => {
    const images = await driver.images();
    await expect(images.pull(image)).rejects.toMatchObject({
      code: "image-pull-failed",
      message: expect.stringMatching(/auth|unauthorized/i),
    });
    await expect(images.pull(`${registry.host}/team/none:1`, { auth: CREDENTIALS })).rejects.toMatchObject({
      code: "image-pull-failed",
      message: expect.stringMatching(/unknown|not found/i),
    });
    expect(await images.find(image)).toBeUndefined();
  });

  test("are pulled by name or digest, and told of meanwhile", async () => {
    const images = await driver.images();
    const said: string[] = [];
    const pulled = await images.pull(image, {
      auth: CREDENTIALS,
      onProgress: ({ status }) => void said.push(status),
    });
    expect(pulled).toMatchObject({ name: image, digest, arch: expect.any(String) });
    expect(pulled.config).toMatchObject({ workdir: "/srv", env: { GREETING: "hello" } });
    expect(said.length).toBeGreaterThan(0);
    const byDigest = image.replace(/:1$/, `@${digest}`);
    expect((await images.pull(byDigest, { auth: CREDENTIALS })).id).toBe(pulled.id);
  });

  test("need neither perl nor bash where the engine is on this host", async () => {
    await (await driver.images()).pull(image, { auth: CREDENTIALS });
    await using box = await driver.create(spec({ image, workdir: "/srv", user: "agent" }));
    expect(
      (await box.shell.run("[[ $BASH_VERSION == [5-9]* ]] && echo $GREETING; cd /; f() { pwd; }")).output,
    ).toBe("hello\n");
    expect((await box.shell.run("f; id -u; ls /bin")).output).toBe(
      `/\n1000\n${["busybox", ...APPLETS].sort().join("\n")}\n`,
    );
    expect(await box.exec({ argv: ["sh", "-c", "echo > /dev/.ale/perl"], user: "root" })).not.toMatchObject({
      exitCode: 0,
    });
    expect((await box.files.write("/srv/b", "from outside")).ok).toBe(true);
    const { snapshot } = await box.snapshot();
    // Nothing of ours is left in what becomes an image. Engines put places for their own mounts into /etc and /run.
    const changed = (await driver.snapshots.diff(null, snapshot.id)).map(({ path }) => path);
    expect(changed.filter((path) => !/^\/(etc|run)(\/|$)/.test(path))).toEqual(["/srv", "/srv/b"]);
    await driver.snapshots.remove(snapshot.id);
  });

  test("elsewhere need them, and a sandbox of one without them says so", async () => {
    await (await driver.images()).pull(image, { auth: CREDENTIALS });
    const home = mkdtempSync(join(tmpdir(), "ale-elsewhere-"));
    // Mounted after the engine began, so that it does not see what lies there: as if it ran on another host.
    mount({ type: "tmpfs", source: "ale", target: home, flags: 0 });
    try {
      symlinkSync(join(defaultHome(), "images"), join(home, "images"));
      await using other = openDockerDriver({ socket: engine.socket, home, unenforced: ["disk", "seccomp"] });
      await expect(other.create(spec({ image, workdir: "/srv" }))).rejects.toMatchObject({
        code: "sandbox-start-failed",
        next: expect.stringContaining("/usr/bin/perl and /bin/bash"),
      });
      await using box = await other.create(spec());
      expect((await box.shell.run("echo well")).output).toBe("well\n");
      expect((await other.capabilities()).weaker.map(({ what }) => what).join()).toContain(
        "needs perl and bash of its own",
      );
    } finally {
      unmount(home);
      rmSync(home, { recursive: true });
    }
  });
});
