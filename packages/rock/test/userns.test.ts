import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { IdRanges, parseSubordinate, RANGE_SIZE } from "../src/host/id-ranges.ts";
import { removeTree } from "../src/host/mounts.ts";
import { mount, unmount } from "../src/host/native.ts";
import { defaultHome, OciDriver } from "../src/index.ts";
import { mountMappedAttached } from "../src/oci/overlay.ts";
import { closeDriver, driver, obstacle, sandbox, spec, suite, until } from "./support.ts";

const temporary = () => {
  const path = mkdtempSync(join(tmpdir(), "ale-users-"));
  return { path, [Symbol.dispose]: () => removeTree(path) };
};

describe("ranges of user numbers", () => {
  const options = { first: 0x7000_0000, count: 3 << 20 };

  test("are nobody else's while they are held, and free again with their holder", () => {
    using locks = temporary();
    const mine = new IdRanges(options, locks.path, []);
    using theirs = new IdRanges(options, locks.path, []);
    const seen = new Set<number>();
    for (let n = 0; n < 16; n++) seen.add(mine.take()).add(theirs.take());
    expect(seen.size).toBe(32);
    for (const first of seen) expect((first - options.first) % RANGE_SIZE).toBe(0);
    mine[Symbol.dispose]();
    for (let n = 0; n < 32; n++) theirs.take();
    expect(() => theirs.take()).toThrow("in use");
  });

  test("that the host gave to its own users are left out", () => {
    expect(parseSubordinate("# none\nme:100000:65536\nyou:1879048192:1\nbroken\n")).toEqual([
      [100_000, 165_536],
      [1_879_048_192, 1_879_048_193],
    ]);
    using locks = temporary();
    using ranges = new IdRanges(options, locks.path, [[options.first, options.first + (2 << 20)]]);
    expect(ranges.take()).toBe(options.first + (2 << 20));
  });
});

const canMap = obstacle === undefined && (await (await driver()).capabilities()).userns;
afterAll(closeDriver);

describe.skipIf(!canMap)(suite("a sandbox's own users"), () => {
  /** The host's numbers of a process of the sandbox that has `mark` among its arguments. */
  function hostUser(mark: string): number | undefined {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        if (words[0] === "sleep" && words.includes(mark))
          return Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
      } catch {
        // It ended meanwhile.
      }
    }
    return undefined;
  }

  test("are nobody on the host, root included, and others in every sandbox", async () => {
    await using one = await sandbox();
    await using two = await sandbox();
    const start = (seconds: string) => ["bash", "-c", `sleep ${seconds} >/dev/null 2>&1 & exec sleep 0.1`];
    await one.exec({ argv: start("601.1"), user: "root" });
    await two.exec({ argv: start("602.2"), user: "root" });
    await until("both sleep", () => ["601.1", "602.2"].every((mark) => hostUser(mark) !== undefined));
    const numbers = [hostUser("601.1")!, hostUser("602.2")!];
    expect(numbers[0]).not.toBe(numbers[1]);
    for (const number of numbers) expect(number).toBeGreaterThanOrEqual(0x7000_0000);
  });

  test("do not meet those of another driver", async () => {
    await using other = new OciDriver();
    const boxes = [await sandbox(), await other.create(spec())];
    const bases = await Promise.all(
      boxes.map(async (box) => (await box.shell.run("cat /proc/self/uid_map")).output.trim().split(/\s+/)),
    );
    await Promise.all(boxes.map((box) => box.destroy()));
    expect(bases.map(([inside, , size]) => [inside, size])).toEqual([
      ["0", "65536"],
      ["0", "65536"],
    ]);
    expect(bases[0]![1]).not.toBe(bases[1]![1]);
  });

  test("leave files with the numbers of the image, so that any other sandbox can go on with them", async () => {
    using target = temporary();
    const box = await sandbox();
    const script =
      "echo r > /root-made; chown 33:44 /root-made; rm /etc/hostname; mkdir /opt/d; chmod 711 /opt/d";
    expect((await box.exec({ argv: ["bash", "-c", script], user: "root" })).exitCode).toBe(0);
    await box.shell.run("echo a > made");
    const layer = join(target.path, "layer");
    await (await driver()).takeLayer(box.id, layer);
    const { uid, gid } = statSync(join(layer, "root-made"));
    expect([uid, gid]).toEqual([33, 44]);
    expect(statSync(join(layer, "work/made")).uid).toBe(1000);
    expect(statSync(join(layer, "opt/d")).uid).toBe(0);
    rmSync(layer, { recursive: true });
  });

  test("own the image: root changes, gives away and removes what is in it", async () => {
    await using box = await sandbox();
    const script =
      "set -e; chown agent /usr/bin/env; stat -c %U /usr/bin/env; rm -r /usr/share/doc; su agent -c id 2>&1";
    const result = await box.exec({ argv: ["bash", "-c", script], user: "root" });
    expect(result.stdout).toMatch(/^agent\nuid=1000\(agent\)/);
  });

  test("can be switched off, and the record says so", async () => {
    await using plain = new OciDriver({ userns: "off" });
    expect(await plain.capabilities()).toMatchObject({ userns: false, idmap: false });
    expect((await plain.capabilities()).weaker.map(({ what }) => what)).toContain("userns");
    await using box = await plain.create(spec());
    expect((await box.shell.run("cat /proc/self/uid_map")).output).toMatch(/^\s*0\s+0\s+4294967295\n$/);
  });

  test("need no kernel that takes layers which are mounted nowhere", () => {
    using place = temporary();
    const holder = execFileSync("sh", ["-c", "unshare -U sleep 5 >/dev/null 2>&1 & echo $!; sleep 0.1"], {
      encoding: "utf8",
    }).trim();
    for (const kind of ["uid", "gid"])
      writeFileSync(`/proc/${holder}/${kind}_map`, "0 1900000000 65536\n65536 0 1\n");
    const namespace = openSync(`/proc/${holder}/ns/user`, "r");
    const part = (name: string): string => join(place.path, name);
    for (const name of ["layer", "root", "lower"]) mkdirSync(part(name));
    writeFileSync(part("lower/file"), "x");
    mount({ type: "tmpfs", source: "ale", target: part("layer"), flags: 0 });
    for (const name of ["upper", "work"]) mkdirSync(part(`layer/${name}`));
    const users = { first: 1_900_000_000, size: 65_536, mountNamespace: namespace };
    mountMappedAttached(
      { layer: part("layer"), lower: [part("lower")], root: part("root"), users: undefined },
      users.mountNamespace,
    );
    expect(statSync(part("root/file")).uid).toBe(users.first);
    expect(existsSync(part("mapped-0"))).toBe(false);
    unmount(part("root"));
    unmount(part("layer"));
    process.kill(Number(holder));
  });

  test("do not show where they lie on the host", async () => {
    await using box = await sandbox();
    expect((await box.shell.run("cat /proc/self/mountinfo")).output).not.toContain(defaultHome());
  });
});
