import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Limits } from "@ale/core";
import { describe, expect, test } from "vitest";
import { components } from "../src/files/tree.ts";
import { missingControllers, parseCgroupMounts, probeCgroups } from "../src/host/cgroup.ts";
import { hastenAttach } from "../src/host/cgroup-haste.ts";
import { Limiter } from "../src/host/limiter.ts";
import { mountsUnder, removeTree, unmountAside } from "../src/host/mounts.ts";
import { MS_BIND, mount } from "../src/host/native.ts";
import { ownGroups, ownHierarchies } from "../src/host/own-groups.ts";
import { isAlive, ownerName, parseOwnerName, self, startTimeOf } from "../src/host/owner.ts";
import { debianSources, parseDeb822, parseOneLine } from "../src/image/apt.ts";
import { debianSuite } from "../src/image/image.ts";
import { probeHost } from "../src/index.ts";
import { refuseOversized } from "../src/oci/capacity.ts";
import { fitsInMemory } from "../src/oci/layer.ts";
import { ociConfig } from "../src/oci/oci-config.ts";
import { seccompProfile } from "../src/oci/seccomp.ts";
import { compileSeccomp } from "../src/oci/seccomp-compile.ts";
import { obstacle } from "./support.ts";

const temporary = () => {
  const path = mkdtempSync(join(tmpdir(), "ale-host-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
};

describe("the host's package sources", () => {
  test("are read in both formats", () => {
    const stanza = `# a comment\nTypes: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /key.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n`;
    expect(parseDeb822(stanza)).toEqual([
      {
        uri: "http://mirror.example/debian",
        suites: ["bookworm", "bookworm-updates"],
        components: ["main", "contrib"],
        signedBy: "/key.gpg",
      },
    ]);
    const lines = `deb [arch=amd64 signed-by=/key.gpg] http://mirror.example/debian bookworm main # note\n#deb http://off.example/debian bookworm main\ndeb-src http://mirror.example/debian bookworm main\n`;
    expect(parseOneLine(lines)).toEqual([
      {
        uri: "http://mirror.example/debian",
        suites: ["bookworm"],
        components: ["main"],
        signedBy: "/key.gpg",
      },
    ]);
  });

  test("of other releases and of third parties stay out of the image", () => {
    using etc = temporary();
    mkdirSync(join(etc.path, "sources.list.d"));
    writeFileSync(
      join(etc.path, "sources.list"),
      "deb http://m.example/debian bookworm main non-free\ndeb http://m.example/debian-security bookworm-security main\ndeb http://m.example/debian trixie main\ndeb http://tools.example/apt bookworm main\ndeb http://pg.example/debian bookworm-pgdg main\n",
    );
    writeFileSync(join(etc.path, "sources.list.d", "x.sources.save"), "garbage");
    const text = debianSources("bookworm", etc.path);
    expect(text).toBe(
      "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n\nTypes: deb\nURIs: http://m.example/debian-security\nSuites: bookworm-security\nComponents: main\n",
    );
    expect(debianSources("sid", etc.path)).toBe("");
  });

  test("name the release of a Debian host; another host gets the recipe's", () => {
    expect(debianSuite("ID=debian\nVERSION_CODENAME=trixie\n")).toBe("trixie");
    expect(debianSuite("ID=ubuntu\nVERSION_CODENAME=noble\n")).toBe("bookworm");
    expect(debianSuite("")).toBe("bookworm");
  });
});

describe("control groups", () => {
  const line = (target: string, type: string, options = "rw") =>
    `31 24 0:26 / ${target} rw shared:9 - ${type} ${type} ${options}`;

  test("are told apart by what is mounted", () => {
    const kinds = [
      ["v2", [line("/none/unified", "cgroup2")]],
      ["v1", [line("/none/pids", "cgroup", "rw,pids")]],
      ["hybrid", [line("/none/pids", "cgroup", "rw,pids"), line("/none/unified", "cgroup2")]],
      ["none", [line("/", "ext4")]],
    ] as const;
    for (const [kind, lines] of kinds) expect(probeCgroups(lines.join("\n")).kind).toBe(kind);
    expect(probeCgroups(line("/none/unified", "cgroup2"))).toMatchObject({ kind: "v2", unified: undefined });
    expect(
      probeCgroups(`${line("/none/a", "cgroup", "rw,cpu")}\n${line("/none/u", "cgroup2")}`).unified,
    ).toBe("/none/u");
  });

  test("that cannot be written do not count", () => {
    expect(missingControllers(probeCgroups(line("/none/pids", "cgroup", "rw,pids")))).toEqual([
      "cpu",
      "memory",
      "pids",
    ]);
  });

  test("of a v2 host name their controllers in a file", () => {
    using hierarchy = temporary();
    writeFileSync(join(hierarchy.path, "cgroup.controllers"), "cpuset cpu io memory pids\n");
    const host = probeCgroups(line(hierarchy.path, "cgroup2"));
    expect(host.controllers).toEqual(["cpuset", "cpu", "io", "memory", "pids"]);
    expect(missingControllers(host)).toEqual([]);
  });

  test("of a v1 host name their controllers in the mount options", () => {
    expect(parseCgroupMounts(line("/c/cpu", "cgroup", "rw,cpu,cpuacct"))).toEqual([
      { target: "/c/cpu", type: "cgroup", options: ["rw", "cpu", "cpuacct"] },
    ]);
  });

  const v1 = (target: string, ...options: string[]) => ({
    target,
    type: "cgroup",
    options: ["rw", ...options],
  });

  test("are entered by a sandbox itself where a v1 host has all that limits need", () => {
    const mounts = [
      v1("/cg/cpu,cpuacct", "cpu", "cpuacct"),
      ...["memory", "pids", "devices", "freezer", "blkio", "cpuset"].map((name) => v1(`/cg/${name}`, name)),
    ];
    const hierarchies = ownHierarchies(mounts)!;
    expect([...hierarchies.keys()]).toEqual(mounts.slice(0, -1).map(({ target }) => target));
    expect(ownHierarchies(mounts.slice(1))).toBeUndefined();
    expect(ownHierarchies([{ target: "/cg", type: "cgroup2", options: ["rw"] }])).toBeUndefined();

    const { enter, limits } = ownGroups(
      hierarchies,
      "sb-1",
      Limits.parse({ memoryBytes: 1e8, cpus: 0.5, pids: 7 }),
    );
    const lines = enter.split("\n");
    expect(lines.slice(0, 4)).toEqual([
      "/cg/cpu,cpuacct/ale/sb-1",
      "/cg/cpu,cpuacct/ale/sb-1/cpu.cfs_period_us 100000",
      "/cg/cpu,cpuacct/ale/sb-1/cpu.shares 262144",
      "/cg/cpu,cpuacct/ale/sb-1/tasks 0",
    ]);
    expect(lines).toContain("/cg/memory/ale/sb-1/memory.limit_in_bytes 100000000");
    const devices = lines.filter((line) => line.includes("devices."));
    expect(devices[0]).toBe("/cg/devices/ale/sb-1/devices.deny a");
    expect(devices.filter((line) => line.includes(" b "))).toEqual([
      "/cg/devices/ale/sb-1/devices.allow b *:* m",
    ]);
    expect(limits).toEqual([
      ["/cg/cpu,cpuacct/ale/sb-1/cpu.cfs_quota_us", "50000"],
      ["/cg/cpu,cpuacct/ale/sb-1/cpu.shares", "1024"],
      ["/cg/pids/ale/sb-1/pids.max", "8"],
    ]);
  });
});

describe("owners", () => {
  test("are alive while their process is, and not when its number is reused or the host restarted", () => {
    const me = self();
    expect(isAlive(me)).toBe(true);
    expect(isAlive({ ...me, startTime: me.startTime - 1 })).toBe(false);
    expect(isAlive({ ...me, bootId: "00000000-0000-0000-0000-000000000000" })).toBe(false);
    expect(startTimeOf(2 ** 22 + 1)).toBeUndefined();
  });

  test("survive being a file name", () => {
    const owner = { pid: 12, startTime: 345, bootId: "0f1f718f-19c1-482d-9886-0244730f2335" };
    expect(parseOwnerName(`${ownerName(owner)}-abc`)).toEqual(owner);
    expect(parseOwnerName("something else")).toBeUndefined();
  });
});

describe("small parts", () => {
  test("mounts are found below a path and not beside it, with escaped names", () => {
    const info = ["/a", "/a/b", "/a/b\\040c", "/ab"]
      .map((target) => `1 1 0:1 / ${target} rw - x x rw`)
      .join("\n");
    expect(mountsUnder("/a", info)).toEqual(["/a", "/a/b", "/a/b c"]);
  });

  test.skipIf(obstacle)("removing a tree spares what is only mounted in it", () => {
    using host = temporary();
    using half = temporary();
    writeFileSync(join(host.path, "precious"), "kept");
    for (const name of ["made", "made/dev", "made/dev/shm"]) mkdirSync(join(half.path, name));
    const bind = (target: string): void =>
      mount({ type: null, source: host.path, target: join(half.path, target), flags: MS_BIND });
    bind("made/dev");
    mkdirSync(join(host.path, "shm"));
    bind("made/dev/shm");
    removeTree(join(half.path, "made"));
    expect(existsSync(join(half.path, "made"))).toBe(false);
    expect(readFileSync(join(host.path, "precious"), "utf8")).toBe("kept");
    expect(mountsUnder(half.path)).toEqual([]);
  });

  test("paths are absolute and do not climb", () => {
    expect(components("/a//b/./c/")).toEqual(["a", "b", "c"]);
    expect(components("/")).toEqual([]);
    for (const path of ["a", "/a/../b", "..", "/a\0b", ""]) expect(components(path)).toBeUndefined();
  });

  test("files live in memory only if they leave half of it to the processes", () => {
    expect(fitsInMemory(Limits.parse({ memoryBytes: 100, diskBytes: 50 }))).toBe(true);
    expect(fitsInMemory(Limits.parse({ memoryBytes: 100, diskBytes: 51 }))).toBe(false);
  });

  test("where the disk is full, room is asked for and no sandbox of nothing", () => {
    const limits = Limits.parse({ memoryBytes: 100, diskBytes: 2 ** 30 });
    expect(() => refuseOversized(limits, { cpus: 64, memoryBytes: 2 ** 30, diskBytes: 0 })).toThrow(
      expect.objectContaining({ code: "limits-above-host", next: expect.stringMatching(/^free some disk/) }),
    );
  });

  test("work that can wait lets those go first who wait for a turn, but not for ever", async () => {
    const limiter = new Limiter(1);
    const order: string[] = [];
    const first = Promise.withResolvers<void>();
    await limiter.giveWay(60_000).then(() => order.push("nobody waits"));
    const tasks = [first.promise, Promise.resolve()].map((work, n) =>
      limiter.run(() => work.then(() => order.push(`task ${n}`))),
    );
    const patient = limiter.giveWay(60_000).then(() => order.push("patient"));
    await limiter.giveWay(1).then(() => order.push("impatient"));
    first.resolve();
    await Promise.all([...tasks, patient]);
    expect(order.slice(0, 3)).toEqual(["nobody waits", "impatient", "task 0"]);
    expect(order.toSorted()).toEqual(["impatient", "nobody waits", "patient", "task 0", "task 1"]);
  });

  test("a limiter serves in turn, forgets those who gave up, and survives failures", async () => {
    const limiter = new Limiter(1);
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    const abort = new AbortController();
    const first = limiter.run(async () => {
      await gate.promise;
      order.push("first");
      throw new Error("failed");
    });
    const second = limiter.run(async () => void order.push("second"), abort.signal);
    const third = limiter.run(async () => void order.push("third"));
    abort.abort(new Error("gave up"));
    await expect(second).rejects.toThrow("gave up");
    gate.resolve();
    await expect(first).rejects.toThrow("failed");
    await third;
    expect(order).toEqual(["first", "third"]);
  });
});

describe("the container's configuration", () => {
  const config = ociConfig({
    rootfs: "/r",
    hostname: "h",
    binds: [],
    init: ["init"],
    limits: Limits.parse({ cpus: 0.5, memoryBytes: 2 ** 26, pids: 9, diskBytes: 2 ** 20 }),
    cgroupsPath: "/ale/x",
    compileSeccomp: () => null,
    logDenied: true,
  });

  test("gives no privileges and shares no namespace", () => {
    expect(config.process.noNewPrivileges).toBe(true);
    expect(config.process.capabilities.bounding).not.toContain("CAP_SYS_ADMIN");
    expect(config.process.capabilities.ambient).toEqual([]);
    expect(config.linux.namespaces.map(({ type }) => type).sort()).toEqual([
      "cgroup",
      "ipc",
      "mount",
      "network",
      "pid",
      "uts",
    ]);
    // A path would join a namespace that exists already.
    for (const namespace of config.linux.namespaces) expect(Object.keys(namespace)).toEqual(["type"]);
  });

  test("carries the limits, without swap", () => {
    expect(config.linux.resources).toMatchObject({
      memory: { limit: 2 ** 26, swap: 2 ** 26 },
      cpu: { quota: 50_000, period: 100_000 },
      pids: { limit: 10 },
      devices: [{ allow: false, access: "rwm" }],
    });
  });

  test("refuses system calls unless they are named", () => {
    expect(config.linux.seccomp.defaultAction).toBe("SCMP_ACT_ERRNO");
    const allowed = seccompProfile().syscalls.filter(
      (rule) => rule.action === "SCMP_ACT_ALLOW" && !rule.args,
    );
    const names = new Set(allowed.flatMap((rule) => rule.names));
    for (const name of [
      "mount",
      "unshare",
      "setns",
      "bpf",
      "clone",
      "clone3",
      "socket",
      "init_module",
      "keyctl",
    ])
      expect(names).not.toContain(name);
  });

  test.skipIf(process.platform !== "linux")("has its filter compiled as a jump tree", () => {
    const program = compileSeccomp(seccompProfile());
    expect(program.length % 8).toBe(0);
    expect(program.length / 8).toBeGreaterThan(300);
  });
});

describe("the doctor's checks", () => {
  test("each say what was found, and what to do only where something is missing", () => {
    using home = temporary();
    const checks = probeHost(home.path);
    expect(checks.map((check) => check.name)).toContain("runtime");
    for (const check of checks) expect(check.fix === undefined).toBe(check.ok);
    expect(checks.find((check) => check.name === "base image")).toMatchObject({ ok: false });
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(home.path);
  });
});

test("a thousand mounts may be detached at once", async () => {
  const detached = await Promise.all(Array.from({ length: 1_000 }, (_, i) => unmountAside(`/nowhere/${i}`)));
  expect(new Set(detached)).toEqual(new Set([false]));
});

test.skipIf(process.platform !== "linux")("hastening changes nothing", async () => {
  const before = readFileSync("/proc/self/cgroup", "utf8");
  hastenAttach();
  await new Promise((done) => setTimeout(done, 60));
  expect(readFileSync("/proc/self/cgroup", "utf8")).toBe(before);
});
