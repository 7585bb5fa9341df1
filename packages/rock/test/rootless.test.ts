import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseIdMap, rootlessObstacle } from "../src/host/rootless.ts";
import { findTool } from "../src/host/tools.ts";
import { baseImage, defaultHome, ensureBaseImage } from "../src/index.ts";
import { obstacle, until } from "./support.ts";

describe("an ordinary user", () => {
  test("needs subordinate users, and is told how to get them", () => {
    expect(rootlessObstacle("me", "you:100000:65536\nme:165536:1000\n")).toMatch(
      /me has no 65536 subordinate users .*usermod|not installed/,
    );
  });

  test("is known by the map of his namespace", () => {
    expect(parseIdMap("         0       1001          1\n         1     100000      65535\n")).toEqual([
      { inside: 0, outside: 1001, size: 1 },
      { inside: 1, outside: 100_000, size: 65_535 },
    ]);
  });
});

const NAME = `ale-test-${process.pid}`;
const script = join(import.meta.dirname, "rootless-user.ts");

/** Makes the user. Why that, or running as him, does not work here; undefined where it does. */
function missing(): string | undefined {
  if (obstacle !== undefined) return obstacle;
  if (findTool("useradd") === undefined || findTool("setpriv") === undefined)
    return "useradd or setpriv is missing";
  if (findTool("crun") === undefined) return "crun is not installed";
  if (spawnSync("useradd", ["-m", NAME]).status !== 0) return "cannot make a user";
  const why = rootlessObstacle(NAME);
  if (why !== undefined) return why;
  const may = spawnSync("setpriv", [
    ...as(),
    process.execPath,
    "--eval",
    `require("fs").readFileSync(${JSON.stringify(script)})`,
  ]);
  return may.status === 0 ? undefined : "this checkout cannot be read by other users";
}

const as = (): string[] => ["--reuid", NAME, "--regid", NAME, "--init-groups", "--"];
const home = `/home/${NAME}`;
const why = missing();

afterAll(() => {
  spawnSync("userdel", ["-r", NAME]);
});

describe.skipIf(why)(`sandboxes of an ordinary user${why === undefined ? "" : ` (skipped: ${why})`}`, () => {
  const environment = { PATH: process.env.PATH, HOME: home };
  const command = [...as(), process.execPath, "--disable-warning=ExperimentalWarning", script];

  beforeAll(async () => {
    const { rootfs } = await ensureBaseImage(defaultHome());
    const target = dirname(baseImage(join(home, ".ale")).rootfs);
    mkdirSync(target, { recursive: true });
    execFileSync("chown", ["-R", `${NAME}:`, join(home, ".ale")]);
    // Unpacked in his namespace, so that owners are his subordinate users.
    const unpack = `tar -C ${dirname(rootfs)} --exclude rootfs/dev/* -cf - rootfs | setpriv ${as().join(" ")} unshare --user --map-root-user --map-auto tar -C ${target} -xf - --same-owner`;
    execFileSync("bash", ["-o", "pipefail", "-c", unpack]);
  });

  test("are copied out of by him also where he has no namespace", () => {
    const files = join(import.meta.dirname, "../src/files");
    const copy = `
      import { packDirectory, unpackDirectory } from ${JSON.stringify(join(import.meta.dirname, "../src/index.ts"))};
      console.log((await unpackDirectory(process.argv[1], packDirectory(${JSON.stringify(dirname(files))}))).entries);`;
    const target = join(home, "copy");
    const { stderr } = spawnSync(
      "setpriv",
      [
        ...as(),
        "bash",
        "-c",
        'mkdir "$1" && "$0" --input-type=module --eval "$2" "$1"',
        process.execPath,
        target,
        copy,
      ],
      { env: environment, encoding: "utf8" },
    );
    expect(stderr.replace(/^.*ExperimentalWarning.*$|^\(Use .*$/gm, "").trim()).toBe("");
    expect(readdirSync(join(target, "files"))).toEqual(readdirSync(files));
  });

  test("have walls, files and users of their own, and say which limits do not hold", () => {
    const { status, stdout, stderr } = spawnSync("setpriv", command, {
      env: environment,
      encoding: "utf8",
      timeout: 25_000,
    });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const said = JSON.parse(stdout);
    expect(said.capabilities).toMatchObject({ rootless: true, userns: true, idmap: false, quota: ["tmpfs"] });
    expect(said.capabilities.enforces).toEqual({ cpu: false, memory: false, pids: true, disk: true });
    expect(said.capabilities.weaker.map(({ what }: { what: string }) => what)).toContain("cpu, memory");
    expect(said.capabilities.network).toEqual(["none"]);
    expect(said.networkRefused).toBe("network-unsupported");
    expect(said.refused).toMatchObject({
      code: "limits-unenforced",
      message: expect.stringContaining("memory"),
    });
    expect(said.shell).toMatch(/^agent\nfrom outside\nagent 640\n[a-z0-9-]+\n$/);
    expect(said.root).toMatch(/^5:6\nCapEff:\t00000000000001fb\nNoNewPrivs:\t1\nSeccomp:\t2\nkept\nnone\n$/);
    expect(said.rootErrors).toContain("No space left on device");
    expect(said.later).toBe("later\n");
    // Twenty processes, the shell and the forking program among them, whoever's they are.
    expect([Number(said.forks), Number(said.agentForks)]).toEqual([18, 19]);
  });

  test("leave nothing, also when their owner is killed", async () => {
    expect(remains()).toEqual([]);
    const owner = spawn("setpriv", command, { env: environment, stdio: "ignore" });
    await until("it runs a sandbox", () => processes().some((line) => line.startsWith("init")));
    process.kill(owner.pid!, "SIGKILL");
    await until("all of it is gone", () => processes().length === 0);
  });

  /** Arguments of processes of his, his subordinates' too. */
  function processes(): string[] {
    const mine = parseIdMap(
      readFileSync("/etc/subuid", "utf8")
        .split("\n")
        .filter((line) => line.startsWith(`${NAME}:`))
        .map((line) => line.replaceAll(":", " ").replace(NAME, "0"))
        .join("\n"),
    )[0]!;
    const uid = Number(execFileSync("id", ["-u", NAME], { encoding: "utf8" }));
    return readdirSync("/proc").flatMap((pid) => {
      try {
        const owner = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
        const his = owner === uid || (owner >= mine.outside && owner < mine.outside + mine.size);
        return his ? [readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")] : [];
      } catch {
        return [];
      }
    });
  }

  function remains(): string[] {
    return [...processes(), ...readdirSync(join(home, ".ale", "rock"))];
  }
});
