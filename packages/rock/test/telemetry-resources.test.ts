import { type Telemetry, telemetryNow } from "@ale/core";
import { afterAll, describe, expect, test } from "vitest";
import type { SandboxSpec } from "../src/index.ts";
import { parseGpuUse } from "../src/telemetry/gpu-usage.ts";
import { type Counters, ResourceWatch } from "../src/telemetry/resources.ts";
import { closeDriver, driver, file, obstacle, sandbox, type spec, suite } from "./support.ts";
import { listenTo, type Watched } from "./telemetry-support.ts";

afterAll(closeDriver);

const LIMITS = { cpus: 2, diskBytes: 1_000, outputBytes: 100 };
const counters = (at: number, stats: Partial<Counters["stats"]>, more: Partial<Counters> = {}): Counters => ({
  at,
  stats: {
    cpuMs: 0,
    throttledPeriods: 0,
    memoryBytes: 100,
    memoryPeakBytes: 100,
    oomKills: 0,
    pids: 1,
    pidsRefused: 0,
    diskBytes: 0,
    diskInodes: 0,
    outputBytes: 0,
    uptimeMs: at,
    idleMs: 0,
    ...stats,
  },
  ioBytes: 0,
  programs: 0,
  ...more,
});

describe("what a sandbox uses", () => {
  test("is averaged over the time for which it has been busy, and over the last second otherwise", () => {
    const watch = new ResourceWatch(LIMITS, counters(0, {}));
    const busy = (n: number) => counters(n * 1_000, { cpuMs: n * 1_900 });
    for (let n = 1; n < 120; n++) watch.take(busy(n));
    expect(watch.take(busy(120))[0]).toMatchObject({
      kind: "resource.sample",
      resource: {
        seconds: 120,
        cpuShare: 0.95,
        newProcessesPerSecond: 0,
        ioBytesPerSecond: 0,
        memoryChange: 0,
      },
    });
    const rest = watch.take(counters(121_000, { cpuMs: 120 * 1_900 }, { programs: 30, ioBytes: 4_096 }));
    expect(rest[0]!.resource).toMatchObject({
      seconds: 1,
      cpuShare: 0,
      newProcessesPerSecond: 30,
      ioBytesPerSecond: 4_096,
    });
  });

  test("leaves out what the host does not count", () => {
    const watch = new ResourceWatch(LIMITS, counters(0, { cpuMs: null, memoryBytes: null }));
    const unknown = { ioBytes: undefined, programs: undefined };
    const [sample] = watch.take(counters(1_000, { cpuMs: null, memoryBytes: null }, unknown));
    expect(Object.keys(sample!.resource!)).toEqual(["seconds", "pids", "diskBytes", "outputBytes"]);
  });

  test("tells of a limit once each time that it is hit", () => {
    const watch = new ResourceWatch(LIMITS, counters(0, { oomKills: 1 }));
    const hit = (n: number, stats: Partial<Counters["stats"]>) =>
      watch.take(counters(n * 1_000, { oomKills: 1, ...stats })).find(({ kind }) => kind === "resource.limit")
        ?.resource;
    expect(hit(1, {})).toBeUndefined();
    expect(hit(2, { oomKills: 3, pidsRefused: 70 })).toEqual({ oomKills: 3, pidsRefused: 70 });
    expect(hit(3, { oomKills: 3, pidsRefused: 70, diskBytes: 995 })).toEqual({ diskBytes: 995 });
    expect(hit(4, { oomKills: 3, pidsRefused: 70, diskBytes: 1_000 })).toBeUndefined();
    expect(hit(5, { oomKills: 3, pidsRefused: 70, outputBytes: 101 })).toEqual({ outputBytes: 101 });
  });
});

describe("processes on a graphics processor", () => {
  const use = [
    { gpu: 0, pid: 4_321, share: 0.98 },
    { gpu: 1, pid: 4_322, share: 0 },
  ];
  test("are read with the columns of older drivers", () => {
    expect(
      parseGpuUse(`# gpu        pid  type    sm   mem   enc   dec   command
# Idx          #   C/G     %     %     %     %   name
    0       4321     C    98    45     -     -   python
    1       4322   C+G     -     -     -     -   Xorg
    2          -     -     -     -     -     -   -
`),
    ).toEqual(use);
  });

  test("are read with those of newer ones, in whatever order", () => {
    expect(
      parseGpuUse(`# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command
# Idx           #    C/G      %      %      %      %      %      %    name
    0       4321     C     98     40      -      -      -      -    python3 -m sm
    1       4322     C      -      -      -      -      -      -    x
`),
    ).toEqual(use);
    expect(parseGpuUse("# gpu sm pid\n0 98 4321\n1 0 4322\n")).toEqual(use);
  });

  test("are none where the tool says something else", () => {
    expect(parseGpuUse("No devices were found\n")).toEqual([]);
    expect(parseGpuUse("")).toEqual([]);
  });
});

const watched = async (more: Parameters<typeof spec>[0] = {}): Promise<Watched> =>
  listenTo(await sandbox(more as Partial<Omit<SandboxSpec, "limits">>));
const can = obstacle === undefined ? await (await driver()).capabilities() : undefined;

describe.skipIf(!can?.telemetry.includes("cgroup"))(suite("the counters of a real sandbox"), () => {
  test("show a processor that is kept busy, and processes that were refused", async () => {
    await using one = await watched({ limits: { pids: 20 } });
    await using idle = await watched();
    await one.box.exec({
      argv: ["bash", "-c", "end=$((SECONDS+3)); while [ $SECONDS -lt $end ]; do :; done"],
    });
    const most = async (of: typeof one): Promise<number> =>
      Math.max(...(await of.told("resource.sample")).map(({ resource }) => resource!.cpuShare!));
    // However little a crowded machine has for it.
    expect(await most(one)).toBeGreaterThan(5 * (await most(idle)));
    await one.box.exec({ argv: ["bash", "-c", "for i in $(seq 60); do sleep 1 & done 2>/dev/null; wait"] });
    const [limit] = await one.told("resource.limit");
    expect(limit).toMatchObject({ source: "cgroup", sandbox: one.box.id });
    expect(limit!.resource!.pidsRefused).toBeGreaterThan(0);
  });
});

describe.skipIf(obstacle)(suite("files of a real sandbox"), () => {
  const changes = (records: readonly Telemetry[]): unknown[] =>
    records.map(({ file: changed }) => `${changed?.change} ${changed?.path}`).toSorted();

  test("are told where their change means something, and the rest is not", async () => {
    await using one = await watched();
    await one.box.exec({
      user: "root",
      argv: [
        "sh",
        "-c",
        `mkdir -p /etc/cron.d /root/.ssh /work/deep/er; echo x > /etc/cron.d/evil; echo k > /root/.ssh/authorized_keys
         echo '#' >> /etc/profile; rm /etc/issue; echo t > /work/deep/er/conftest.py; echo w > /work/deep/er/main.py`,
      ],
    });
    expect(changes(await one.told("file.change"))).toEqual([
      "created /etc/cron.d/evil",
      "created /root/.ssh/authorized_keys",
      "created /work/deep/er/conftest.py",
      "deleted /etc/issue",
      "modified /etc/profile",
    ]);
    await one.box.exec({
      user: "root",
      argv: ["sh", "-c", "echo y >> /etc/cron.d/evil; rm /work/deep/er/conftest.py; rm -rf /root/.ssh"],
    });
    expect(changes((await one.told("file.change")).slice(5))).toEqual([
      "deleted /root/.ssh/authorized_keys",
      "deleted /work/deep/er/conftest.py",
      "modified /etc/cron.d/evil",
    ]);
  });

  test("are told with the time of their change, however late they are looked at", async () => {
    await using one = await watched();
    await one.told("file.change");
    const began = telemetryNow();
    await one.box.exec({ argv: ["sh", "-c", "echo x >> ~/.bashrc; mkdir -p ~/.ssh; touch ~/.ssh/config"] });
    await one.box.exec({ argv: ["sh", "-c", "rm ~/.ssh/config"] });
    const ended = telemetryNow();
    // Nobody looks meanwhile.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
    const told = await one.told("file.change");
    expect(told.map((record) => record.file?.path)).toContain("/home/agent/.bashrc");
    for (const { at } of told) {
      expect(at).toBeGreaterThan(began - 20);
      expect(at).toBeLessThan(ended);
    }
  });

  test("that were moved to their place with their directory do not have a time from before the move", async () => {
    await using one = await watched();
    await one.box.exec({
      argv: ["sh", "-c", "mkdir -p /work/a/.ssh; echo k > /work/a/.ssh/authorized_keys; sleep 0.1"],
    });
    await one.told("file.change");
    const began = telemetryNow();
    await one.box.exec({ argv: ["sh", "-c", "rm -rf ~/.ssh; mv /work/a/.ssh ~/.ssh"] });
    const moved = (await one.told("file.change")).filter(
      ({ file: at }) => at?.path === "/home/agent/.ssh/authorized_keys",
    );
    for (const { at } of moved) expect(at).toBeGreaterThan(began - 20);
    expect(moved).toHaveLength(1);
  });

  test("that were set back to their old size and time are told all the same", async () => {
    await using one = await watched({ files: [file("/work/conftest.py", "aaaa")] });
    await one.box.exec({
      user: "root",
      argv: [
        "sh",
        "-c",
        "touch -r /work/conftest.py /tmp/t; printf bbbb > /work/conftest.py; touch -r /tmp/t /work/conftest.py",
      ],
    });
    // Once or twice: a look may fall between two of the steps.
    expect([...new Set(changes(await one.told("file.change")))]).toEqual(["modified /work/conftest.py"]);
  });

  test("that the harness writes are not the sandbox's doing", async () => {
    await using one = await watched();
    await one.box.writeFiles([file("/tests/test.sh", "exit 0")]);
    expect(await one.told("file.change")).toEqual([]);
    await one.box.exec({ user: "root", argv: ["sh", "-c", "echo 'exit 1' > /tests/test.sh"] });
    expect(changes(await one.told("file.change"))).toEqual(["modified /tests/test.sh"]);
  });

  test("that were planted are told when somebody reads them, once each", async () => {
    await using one = await watched({ files: [file("/work/canary", "secret"), file("/work/other", "x")] });
    expect(await one.told("file.read")).toEqual([]);
    await one.box.readFile("/work/canary");
    await one.box.fingerprint(["/work/canary"]);
    expect(await one.told("file.read")).toEqual([]);
    await one.box.exec({ argv: ["cat", "/work/canary"] });
    await one.box.exec({ argv: ["cat", "/work/canary"] });
    expect((await one.told("file.read")).map(({ file: read }) => read)).toEqual([{ path: "/work/canary" }]);
  });
});
