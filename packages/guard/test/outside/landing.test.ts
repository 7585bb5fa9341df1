import { describe, expect, it } from "vitest";
import { type Act, NO_NETWORK } from "../../src/outside/act.ts";
import { NOTHING, type OutsideAlarm } from "../../src/outside/alarm.ts";
import { landAlarms } from "../../src/outside/landing.ts";

const T0 = Date.UTC(2026, 2, 1, 4, 0, 0);

const act = (more: Partial<Act> & { at: number }): Act => ({
  episode: "ep_a",
  chunk: 0,
  callId: null,
  sandbox: null,
  durationMs: 0,
  ...NO_NETWORK,
  protocol: "tcp",
  pid: null,
  program: null,
  command: null,
  path: null,
  ...more,
});

const alarm = (more: Partial<OutsideAlarm> & { at: number }): OutsideAlarm => ({
  ...NOTHING,
  id: "fw:1",
  source: "suricata",
  title: "alarm",
  severity: "high",
  protocol: "tcp",
  raw: null,
  ...more,
});

describe("an alarm lands on the chunk that caused it", () => {
  it("by address, port and time", () => {
    const acts = [
      act({ at: T0, chunk: 3, ip: "198.51.100.7", port: 22 }),
      act({ at: T0 + 60_000, chunk: 5, ip: "198.51.100.7", port: 22 }),
      act({ at: T0 + 500, chunk: 4, ip: "203.0.113.1", port: 443 }),
    ];
    const { landings } = landAlarms([alarm({ at: T0 + 200, toIp: "198.51.100.7", toPort: 22 })], acts);
    expect(landings[0]!.candidates[0]).toMatchObject({ act: { chunk: 3 }, confidence: expect.closeTo(1, 1) });
  });

  // The story of the paper: a firewall whose clock is seven minutes off, many episodes at once, and nobody who knows which it was.
  it("although the firewall's clock is seven minutes off and dozens of episodes ran at once", () => {
    const skewMs = 433_000;
    const acts = Array.from({ length: 60 }, (_, i) =>
      act({
        at: T0 + i * 7_919,
        episode: `ep_${i}`,
        chunk: i % 9,
        ip: i % 3 === 0 ? "10.0.0.5" : `203.0.113.${i}`,
        port: i % 3 === 0 ? 5432 : 443,
      }),
    );
    const guilty = [3, 19, 30, 42];
    const alarms = guilty.map((i, n) =>
      alarm({
        id: `fw:${n}`,
        at: acts[i]!.at + skewMs + (n % 2 ? 400 : -300),
        toIp: acts[i]!.ip,
        toPort: acts[i]!.port,
      }),
    );
    const { clocks, landings } = landAlarms(alarms, acts);
    expect(Math.abs(clocks[0]!.offsetMs - skewMs)).toBeLessThan(500);
    expect(landings.map(({ candidates }) => candidates[0]?.act.episode)).toEqual(
      guilty.map((i) => `ep_${i}`),
    );
    for (const { candidates } of landings) expect(candidates[0]!.confidence).toBeGreaterThan(0.9);
  });

  it("with its rivals, where two did the same at the same time", () => {
    const acts = [
      act({ at: T0, episode: "ep_a", ip: "10.0.0.5", port: 80 }),
      act({ at: T0 + 50, episode: "ep_b", ip: "10.0.0.5", port: 80 }),
    ];
    const { landings } = landAlarms([alarm({ at: T0 + 20, toIp: "10.0.0.5", toPort: 80 })], acts);
    const [{ candidates }] = landings as [(typeof landings)[0]];
    expect(candidates.map(({ confidence }) => confidence)).toEqual([
      expect.closeTo(0.5, 1),
      expect.closeTo(0.5, 1),
    ]);
  });

  it("by the source port, which decides between the two", () => {
    const acts = [
      act({ at: T0, episode: "ep_a", ip: "10.0.0.5", port: 80, fromPort: 40_001 }),
      act({ at: T0, episode: "ep_b", ip: "10.0.0.5", port: 80, fromPort: 40_002 }),
    ];
    const { landings } = landAlarms(
      [alarm({ at: T0, toIp: "10.0.0.5", toPort: 80, fromPort: 40_002 })],
      acts,
    );
    expect(landings[0]!.candidates[0]).toMatchObject({ act: { episode: "ep_b" } });
    expect(landings[0]!.candidates[0]!.confidence).toBeGreaterThan(0.95);
  });

  it("by its address, however much goes to other places at the same port", () => {
    const acts = [
      act({ at: T0, chunk: 3, ip: "198.51.100.7", port: 443 }),
      // The sandbox's own side of connections through the gateway: names, and no addresses.
      ...Array.from({ length: 200 }, (_, i) =>
        act({ at: T0 + (i - 100) * 100, episode: `ep_${i}`, host: `h${i}.example`, port: 443 }),
      ),
    ];
    const { landings } = landAlarms([alarm({ at: T0 + 200, toIp: "198.51.100.7", toPort: 443 })], acts);
    expect(landings[0]!.candidates).toMatchObject([{ act: { chunk: 3 }, confidence: expect.closeTo(1, 1) }]);
  });

  it("within a connection that lasted, not only at its beginning", () => {
    const acts = [act({ at: T0, durationMs: 600_000, ip: "198.51.100.7", port: 443 })];
    const alarms = [alarm({ at: T0 + 300_000, toIp: "198.51.100.7", toPort: 443 })];
    const { landings } = landAlarms(alarms, acts, { skew: { offsetMs: 0, spreadMs: 1_000 } });
    expect(landings[0]!.candidates[0]).toMatchObject({ residualMs: 0 });
  });
});

describe("an alarm that nothing explains", () => {
  it("lands nowhere when no act resembles it", () => {
    const { landings } = landAlarms(
      [alarm({ at: T0, toIp: "192.0.2.1", toPort: 9 })],
      [act({ at: T0, ip: "10.0.0.5", port: 9 })],
    );
    expect(landings[0]).toMatchObject({ candidates: [], unexplained: 1 });
  });

  it("is mostly unexplained when the likeliest act was long before", () => {
    const { landings } = landAlarms(
      [alarm({ at: T0 + 60_000, toIp: "10.0.0.5", toPort: 80 })],
      [act({ at: T0, ip: "10.0.0.5", port: 80 })],
      { skew: { offsetMs: 0, spreadMs: 1_000 } },
    );
    expect(landings[0]!.unexplained).toBeGreaterThan(0.99);
  });

  it("is not pinned on whoever only spoke the same protocol", () => {
    const { landings } = landAlarms(
      [alarm({ at: T0, protocol: "tcp" })],
      [act({ at: T0, ip: "10.0.0.5", port: 80 })],
    );
    expect(landings[0]!.candidates).toEqual([]);
  });

  it("does not drag the clocks apart by more than is believed", () => {
    const { clocks, landings } = landAlarms(
      [alarm({ at: T0 + 5 * 3_600_000, toIp: "10.0.0.5", toPort: 80 })],
      [act({ at: T0, ip: "10.0.0.5", port: 80 })],
    );
    expect(clocks).toEqual([]);
    expect(landings[0]).toMatchObject({ skewMs: 0, why: { code: "no-episode" } });
  });
});

/** Acts towards twelve places, minutes apart, of one episode each; what a firewall says of them. */
const places = (count: number, everyMs: number) =>
  Array.from({ length: count }, (_, i) =>
    act({
      at: T0 + i * everyMs + ((i * 7_919) % 13_000),
      episode: `ep_${i}`,
      ip: `203.0.113.${i % 12}`,
      port: 443,
    }),
  );
const toldOf = (one: Act, skewMs: number, more: Partial<OutsideAlarm> = {}): OutsideAlarm =>
  alarm({ at: one.at + skewMs, toIp: one.ip, toPort: one.port, ...more });
const landedOn = ({ landings }: ReturnType<typeof landAlarms<Act>>): (string | undefined)[] =>
  landings.map(({ candidates: [best] }) =>
    best !== undefined && best.confidence > 2 / 3 ? best.act.episode : undefined,
  );

describe("clocks", () => {
  it("are told apart by sensor", () => {
    const acts = places(24, 60_000);
    const alarms = acts.map((one, i) =>
      i % 2 === 0 ? toldOf(one, 95_000, { sensor: "edge-1" }) : toldOf(one, -1_234_000, { sensor: "edge-2" }),
    );
    const landed = landAlarms(alarms, acts);
    expect(landedOn(landed)).toEqual(acts.map(({ episode }) => episode));
    expect(landed.clocks).toMatchObject([
      { sensor: "edge-1", offsetMs: 95_000, support: 12, driftPpm: 0 },
      { sensor: "edge-2", offsetMs: -1_234_000, support: 12, driftPpm: 0 },
    ]);
  });

  it("of many sensors with few alarms are taken together", () => {
    const acts = places(12, 60_000);
    const alarms = acts.map((one, i) => toldOf(one, 95_000, { sensor: `eni-${i}` }));
    const { clocks, landings } = landAlarms(alarms, acts);
    expect(clocks).toMatchObject([{ sensor: null, sensors: 12, offsetMs: 95_000, support: 12 }]);
    for (const { candidates } of landings) expect(candidates[0]!.confidence).toBeGreaterThan(0.9);
  });

  it("that were set in the middle of a file do not spoil what came before or after", () => {
    const acts = places(40, 45_000);
    const alarms = acts.map((one, i) => toldOf(one, i < 25 ? 433_000 : 0));
    const landed = landAlarms(alarms, acts);
    expect(landedOn(landed)).toEqual(acts.map(({ episode }) => episode));
    expect(landed.clocks).toMatchObject([
      { offsetMs: 433_000, support: 25 },
      { offsetMs: 0, support: 15 },
    ]);
  });

  it("that run too fast are followed", () => {
    const acts = places(80, 120_000);
    const [first] = acts as [Act];
    const alarms = acts.map((one, i) => toldOf(one, 20_000 + 400e-6 * (one.at - first.at) + (i % 3) * 100));
    const landed = landAlarms(alarms, acts);
    expect(landedOn(landed)).toEqual(acts.map(({ episode }) => episode));
    expect(landed.clocks).toHaveLength(1);
    expect(landed.clocks[0]!.driftPpm).toBeGreaterThan(350);
    expect(landed.clocks[0]!.driftPpm).toBeLessThan(450);
    expect(landed.clocks[0]!.spreadMs).toBe(1_000);
  });

  it("far from ours are not believed on the word of one alarm, but of several", () => {
    const acts = places(6, 60_000);
    const far = (count: number) =>
      landAlarms(
        acts.slice(0, count).map((one) => toldOf(one, 2_400_000)),
        acts,
      );
    expect(far(1).landings[0]).toMatchObject({ why: { code: "other-time" } });
    expect(landedOn(far(1))).toEqual([undefined]);
    expect(landedOn(far(5))).toEqual(acts.slice(0, 5).map(({ episode }) => episode));
  });

  it("known from before make one alarm enough", () => {
    const acts = places(6, 60_000);
    const told = [toldOf(acts[0]!, 2_400_000, { sensor: "edge-1" })];
    const anchors = [1, 2, 3].map((n) => ({
      source: "suricata" as const,
      sensor: "edge-1",
      at: T0 - n * 60_000,
      offsetMs: 2_400_000,
    }));
    expect(landedOn(landAlarms(told, acts, { anchors }))).toEqual(["ep_0"]);
    expect(
      landedOn(landAlarms(told, acts, { anchors: anchors.map((one) => ({ ...one, sensor: "edge-2" })) })),
    ).toEqual([undefined]);
  });

  it("that could be one or the other accuse nobody", () => {
    const acts = [
      act({ at: T0, episode: "ep_a", ip: "10.0.0.5", port: 80 }),
      act({ at: T0 + 9_000, episode: "ep_b", ip: "10.0.0.5", port: 80 }),
    ];
    const landed = landAlarms([alarm({ at: T0 + 4_500, toIp: "10.0.0.5", toPort: 80 })], acts);
    expect(landedOn(landed)).toEqual([undefined]);
    expect(landed.landings[0]!.candidates.map(({ act }) => act.episode).sort()).toEqual(["ep_a", "ep_b"]);
  });
});

describe("an alarm of a host's monitor, which names no address", () => {
  const nc = act({
    at: T0,
    protocol: null,
    sandbox: "sb_8f3a91",
    episode: "ep_a",
    pid: 4711,
    program: "/usr/bin/nc",
    command: "/usr/bin/nc -lvp 4444",
  });
  const acts = [
    nc,
    { ...nc, episode: "ep_b", sandbox: "sb_77cc12", pid: 4900 },
    { ...nc, at: T0 - 900_000, episode: "ep_c", sandbox: "sb_000000", pid: 4500 },
    act({
      at: T0 + 100,
      protocol: null,
      episode: "ep_d",
      sandbox: "sb_8f3a91",
      program: "/usr/bin/ls",
      command: "ls",
      pid: 4712,
    }),
  ];
  const falco = { source: "falco", protocol: null, at: T0 + 3 } as const;

  it.each<[what: string, more: Partial<OutsideAlarm>, lands: string | undefined]>([
    ["by process", { pid: 4711 }, "ep_a"],
    [
      "by container and command",
      { containers: ["a1b2c3d4e5f6", "ale-sb_8f3a91"], command: "nc -lvp 4444" },
      "ep_a",
    ],
    ["by program and container", { containers: ["sb_77cc12"], program: "nc" }, "ep_b"],
    [
      "by what it was called, whatever file that leads to",
      { program: "/usr/bin/nc.openbsd", command: "nc -l 9", containers: ["sb_77cc12"] },
      "ep_b",
    ],
    ["not by a command that two ran at once", { command: "nc -lvp 4444" }, undefined],
    ["by a command and its time", { command: "nc -lvp 4444", at: T0 - 899_990 }, "ep_c"],
  ])("lands %s", (_, more, lands) => {
    expect(landedOn(landAlarms([alarm({ ...falco, ...more })], acts))).toEqual([lands]);
  });

  it.each<[more: Partial<OutsideAlarm>, code: string, detail: string]>([
    [{}, "no-facts", "no address, port, host, process"],
    [{ command: "xmrig -o pool" }, "no-act", 'nothing recorded is like the program "xmrig -o pool"'],
    [{ containers: ["3ad7b26ded6d"] }, "no-act", "the container 3ad7b26ded6d"],
    [{ command: "nc -lvp 4444", at: T0 + 600_000 }, "other-time", "was 10 min before it"],
    [{ command: "nc -lvp 4444", at: T0 + 86_400_000 }, "no-episode", "within 60 min"],
    [{ toIp: "192.0.2.1", toPort: 22 }, "no-act", "a connection to 192.0.2.1:22"],
  ])("%j is nobody's, and says why: %s", (more, code, detail) => {
    const [landing] = landAlarms([alarm({ ...falco, ...more })], acts).landings;
    expect(landing!.why).toMatchObject({ code, detail: expect.stringContaining(detail) });
  });
});

it("gives probabilities that add up", () => {
  const acts = Array.from({ length: 20 }, (_, i) =>
    act({ at: T0 + i * 100, chunk: i, ip: "10.0.0.5", port: 80 }),
  );
  const { landings } = landAlarms([alarm({ at: T0 + 950, toIp: "10.0.0.5", toPort: 80 })], acts);
  const [{ candidates, unexplained }] = landings as [(typeof landings)[0]];
  const sum = candidates.reduce((total, { confidence }) => total + confidence, unexplained);
  expect(sum).toBeCloseTo(1, 2);
});
