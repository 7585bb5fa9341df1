import { type Telemetry, telemetryNow } from "@ale/core";
import { describe, expect, test } from "vitest";
import { fromMonotonicMs, fromWallMs, monotonicMs } from "../src/telemetry/clock.ts";
import type { Collector, CollectorKind, Observed } from "../src/telemetry/collector.ts";
import { TelemetryHub } from "../src/telemetry/hub.ts";
import { Pacing } from "../src/telemetry/pacing.ts";

const record = (more: Partial<Telemetry> = {}): Telemetry => ({
  at: telemetryNow(),
  kind: "process.exec",
  source: "tracefs",
  sandbox: "a",
  ...more,
});
const box = (id: string): Observed => ({
  id,
  pids: () => [],
  shells: () => [],
  users: () => undefined,
  upper: () => undefined,
  lower: () => [],
  filesRead: () => [],
  stats: () => undefined,
  limits: { cpus: 1, diskBytes: 1, outputBytes: 1 },
});

describe("the pace of one sandbox's records", () => {
  test("lets a burst through, then so many a second, and each record says how many were left out before it", () => {
    const pacing = new Pacing({ burst: 3, perSecond: 10 });
    const at = (ms: number): Telemetry | undefined => pacing.admit(record(), ms);
    expect([at(0), at(0), at(0)].map((one) => one?.suppressed)).toEqual([undefined, undefined, undefined]);
    expect([at(0), at(10), at(20)]).toEqual([undefined, undefined, undefined]);
    expect(at(200)).toMatchObject({ suppressed: 3 });
    expect(at(201)?.suppressed).toBeUndefined();
  });

  test("loses no count: what was told and what was said to be left out is what came, whatever the pattern", () => {
    const pacing = new Pacing({ burst: 5, perSecond: 50 });
    let [came, told] = [0, 0];
    const count = (one: Telemetry | undefined): void => {
      if (one !== undefined) told += 1 + (one.suppressed ?? 0);
    };
    for (let ms = 0; ms < 3_000; ms += 3) {
      const before = ms % 7 === 0 ? { suppressed: 4 } : {};
      came += 1 + (before.suppressed ?? 0);
      count(pacing.admit(record({ ...before, kind: ms % 2 ? "process.exec" : "net.connect" }), ms));
      if (ms % 999 === 0) for (const one of pacing.flush()) count(one);
    }
    for (const one of pacing.flush()) count(one);
    expect(told).toBe(came);
    expect(pacing.flush()).toEqual([]);
  });

  test("of one kind takes nothing from another", () => {
    const pacing = new Pacing({ burst: 1, perSecond: 1 });
    for (let n = 0; n < 10; n++) pacing.admit(record(), 0);
    expect(pacing.admit(record({ kind: "net.deny", source: "sink" }), 0)?.suppressed).toBeUndefined();
  });
});

/** A collector that writes down what it is asked. */
function witness(log: string[]): CollectorKind {
  return {
    sources: ["tracefs"],
    start: () => {
      log.push("start");
      const collector: Collector = {
        follow: ({ id }) => void log.push(`follow ${id}`),
        forget: (id) => void log.push(`forget ${id}`),
        drain: async (id) => void log.push(`drain ${id}`),
        [Symbol.dispose]: () => void log.push("stop"),
      };
      return collector;
    },
  };
}

const idle: Collector = {
  follow: () => {},
  forget: () => {},
  drain: () => Promise.resolve(),
  [Symbol.dispose]: () => {},
};

describe("the hub of a driver's telemetry", () => {
  test("starts only what somebody wants to hear, follows only whom he wants it of, and tells nobody more", () => {
    const [traces, files]: [string[], string[]] = [[], []];
    const kinds = [witness(traces), { ...witness(files), sources: ["files" as const] }];
    const hub = new TelemetryHub(() => kinds);
    const told: string[] = [];
    const tell = (who: string) => (one: Telemetry) => void told.push(`${who} ${one.source}`);
    const first = hub.listen(box("a"), tell("first"), ["files", "dns"]);
    expect([traces, files]).toEqual([[], ["start", "follow a"]]);
    const second = hub.listen(box("a"), tell("second"));
    const third = hub.listen(box("b"), tell("third"), ["dns"]);
    expect(traces).toEqual(["start", "follow a"]);
    for (const source of ["files", "tracefs"] as const) hub.tell(record({ source }));
    expect(told).toEqual(["first files", "second files", "second tracefs"]);
    second[Symbol.dispose]();
    expect(traces).toEqual(["start", "follow a", "forget a", "stop"]);
    expect(files).toEqual(["start", "follow a"]);
    first[Symbol.dispose]();
    third[Symbol.dispose]();
    expect(files).toEqual(["start", "follow a", "forget a", "stop"]);
  });

  test("starts its collectors with the first listener and stops them with the last", async () => {
    const log: string[] = [];
    const hub = new TelemetryHub(() => [witness(log)]);
    hub.tell(record());
    await hub.drain("a");
    expect(log).toEqual([]);
    const first = hub.listen(box("a"), () => {});
    const second = hub.listen(box("a"), () => {});
    const other = hub.listen(box("b"), () => {});
    await hub.drain("a");
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    expect(log).toEqual(["start", "follow a", "follow b", "drain a"]);
    second[Symbol.dispose]();
    other[Symbol.dispose]();
    expect(log.slice(4)).toEqual(["forget a", "forget b", "stop"]);
  });

  test("tells each listener of its own sandbox, and a flood in one does not thin out another's", () => {
    const hub = new TelemetryHub(() => [], { burst: 10, perSecond: 1 });
    const told: Record<string, Telemetry[]> = { a: [], b: [] };
    using _a = hub.listen(box("a"), (one) => told.a!.push(one));
    using _b = hub.listen(box("b"), (one) => told.b!.push(one));
    for (let n = 0; n < 100; n++) hub.tell(record());
    for (let n = 0; n < 5; n++) hub.tell(record({ sandbox: "b" }));
    hub.tell(record({ sandbox: "c" }));
    hub.tell(record({ sandbox: null }));
    expect([told.a!.length, told.b!.length]).toEqual([10, 5]);
  });

  test("asks nobody about what it leaves out, but about what it tells of it in the end", async () => {
    const asked: number[] = [];
    const helper: CollectorKind = {
      sources: ["tracefs"],
      start: () => ({
        ...idle,
        enrich: async (one) => {
          asked.push(one.at);
          return one;
        },
      }),
    };
    const hub = new TelemetryHub(() => [helper], { burst: 2, perSecond: 0.001 });
    const told: Telemetry[] = [];
    using _ = hub.listen(box("a"), (one) => told.push(one));
    const denied = { kind: "syscall.denied", source: "audit", process: { pid: 4_000_000 } } as const;
    for (let at = 0; at < 50; at++) hub.tell(record({ ...denied, at }));
    await hub.drain("a");
    expect(asked).toEqual([0, 1, 49]);
    expect(told.map(({ at, suppressed }) => [at, suppressed])).toEqual([
      [0, undefined],
      [1, undefined],
      [49, 47],
    ]);
  });

  test("says of each process which of its ancestors is a session's shell, whatever its start is known to", () => {
    const shells = [
      { pid: 20, startedAt: 1_000 },
      { pid: 30, startedAt: 9_000 },
    ];
    const hub = new TelemetryHub(() => []);
    const told: Telemetry[] = [];
    using _ = hub.listen({ ...box("a"), shells: () => shells }, (one) => told.push(one));
    const tell = (pid: number, startedAt: number, ...lineage: { pid: number; startedAt: number }[]) =>
      hub.tell(record({ process: { pid, startedAt, lineage } }));
    tell(20, 1_009.7);
    tell(50, 5_000, { pid: 40, startedAt: 4_000 }, { pid: 20, startedAt: 1_009.7 });
    // Another process that got the number later, and one that no shell is in sight of.
    tell(20, 1_500);
    tell(50, 5_000, { pid: 30, startedAt: 2_000 });
    expect(told.map(({ process }) => process?.shell)).toEqual([20, 20, undefined, undefined]);
  });

  test("tells at a drain what was left out until then", async () => {
    const hub = new TelemetryHub(() => [], { burst: 2, perSecond: 0.001 });
    const told: Telemetry[] = [];
    using _ = hub.listen(box("a"), (one) => told.push(one));
    for (let n = 0; n < 9; n++) hub.tell(record({ at: n }));
    await hub.drain("a");
    expect(told.map(({ at, suppressed }) => [at, suppressed])).toEqual([
      [0, undefined],
      [1, undefined],
      [8, 6],
    ]);
  });
});

describe("the clock of telemetry", () => {
  test("takes over what the kernel stamps with its monotonic clock", () => {
    const [before, at, after] = [telemetryNow(), fromMonotonicMs(monotonicMs()), telemetryNow()];
    expect(at).toBeGreaterThanOrEqual(before - 1);
    expect(at).toBeLessThanOrEqual(after + 1);
  });

  test("does not follow a wall clock that was set meanwhile", () => {
    const real = Date.now;
    try {
      const stamped = Date.now();
      expect(Math.abs(fromWallMs(stamped) - telemetryNow())).toBeLessThan(100);
      Date.now = () => real() + 3_600_000;
      expect(Math.abs(fromWallMs(stamped) - telemetryNow())).toBeLessThan(100);
      Date.now = () => real() - 3_600_000;
      expect(Math.abs(fromWallMs(stamped) - telemetryNow())).toBeLessThan(100);
    } finally {
      Date.now = real;
    }
  });
});
