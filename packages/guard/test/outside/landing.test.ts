import { describe, expect, it } from "vitest";
import { NOTHING, type OutsideAlarm } from "../../src/outside/alarm.ts";
import { landAlarms, type NetworkAct } from "../../src/outside/landing.ts";

const T0 = Date.UTC(2026, 2, 1, 4, 0, 0);

const act = (more: Partial<NetworkAct> & { at: number }): NetworkAct => ({
  episode: "ep_a",
  chunk: 0,
  callId: null,
  durationMs: 0,
  protocol: "tcp",
  ip: null,
  port: null,
  host: null,
  fromIp: null,
  fromPort: null,
  pid: null,
  command: null,
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
    const { skew, landings } = landAlarms(alarms, acts);
    expect(Math.abs(skew.offsetMs - skewMs)).toBeLessThan(500);
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

  it("within a connection that lasted, not only at its beginning", () => {
    const acts = [act({ at: T0, durationMs: 600_000, ip: "198.51.100.7", port: 443 })];
    const alarms = [alarm({ at: T0 + 300_000, toIp: "198.51.100.7", toPort: 443 })];
    const { landings } = landAlarms(alarms, acts, { skew: { offsetMs: 0, spreadMs: 1_000, support: 1 } });
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
      { skew: { offsetMs: 0, spreadMs: 1_000, support: 9 } },
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
    const { skew } = landAlarms(
      [alarm({ at: T0 + 5 * 3_600_000, toIp: "10.0.0.5", toPort: 80 })],
      [act({ at: T0, ip: "10.0.0.5", port: 80 })],
    );
    expect(skew).toMatchObject({ offsetMs: 0, support: 0 });
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
