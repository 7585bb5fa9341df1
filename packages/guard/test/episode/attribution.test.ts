import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Attributor, START_TICK_MS } from "../../src/episode/attribution.ts";
import { CallTimeline } from "../../src/episode/timeline.ts";
import { deny, processOf, record, SESSION_SHELL, START } from "./support.ts";

/** Calls of these times, one a chunk. */
function timelineOf(...spans: readonly (readonly [from: number, to: number])[]): CallTimeline {
  const timeline = new CallTimeline();
  for (const [chunk, [from, to]] of spans.entries())
    timeline.end(timeline.begin(chunk, `call_${chunk}`, START + from), START + to);
  return timeline;
}

const THREE = [
  [0, 400],
  [1_000, 1_400],
  [2_000, 2_400],
] as const;

const judge = (timeline: CallTimeline, ...records: Parameters<Attributor["attribute"]>[0][]) => {
  const attributor = new Attributor(timeline);
  return records.map((one) => {
    const found = attributor.attribute(one);
    return found === null ? null : [found.during.chunk, found.cause.chunk, found.how];
  });
};

describe("the chunk during which something happened", () => {
  it("is that of the call that ran, between two calls that of the earlier, before the first none", () => {
    const at = [-1, 0, 399, 700, 1_000, 9_999];
    const found = judge(timelineOf(...THREE), ...at.map((time) => record(time, "resource.sample")));
    expect(found.map((one) => one?.[0] ?? null)).toEqual([null, 0, 0, 0, 1, 2]);
  });

  it("does not go back with a clock that does", () => {
    const timeline = timelineOf([0, 400], [-3_600_000, -3_599_000], [500, 600]);
    expect(judge(timeline, record(450, "dns.query"), record(550, "dns.query"))).toEqual([
      [1, 1, "interval"],
      [2, 2, "interval"],
    ]);
  });
});

describe("the chunk that caused it", () => {
  it("is the one whose call started the oldest of the process and its ancestors", () => {
    const process = processOf([
      [50, 2_100, "curl x"],
      [40, 1_200, "sh loop.sh"],
      [30, 220, "nohup sh loop.sh"],
    ]);
    expect(judge(timelineOf(...THREE), deny(2_110, {}, process))).toEqual([[2, 0, "ancestry"]]);
  });

  it("is not told by a shell that was there before all calls, or that a driver began with the first", () => {
    const late = { ...SESSION_SHELL, startedAt: START + 30 };
    const curl = processOf([[50, 2_100, "curl x"]], late);
    const builtin = deny(2_110, {}, { ...late, ancestry: [], lineage: [] });
    expect(judge(timelineOf(...THREE), deny(2_110, {}, curl), builtin)).toEqual([
      [2, 2, "ancestry"],
      [2, 2, "interval"],
    ]);
  });

  it.each([
    ["missing", undefined],
    ["read late, when it was another program's", "make -j4"],
  ])("is not told by such a shell whose command line is %s", (_, command) => {
    const late = { ...SESSION_SHELL, startedAt: START + 30, command: command ?? "" };
    const curl = deny(2_110, {}, processOf([[50, 2_100, "curl x"]], late));
    expect(judge(timelineOf(...THREE), curl)).toEqual([[2, 2, "ancestry"]]);
  });

  it("is that of a program which only looks like such a shell", () => {
    const { shell: _, ...imitator } = { ...SESSION_SHELL, startedAt: START + 30 };
    const curl = deny(2_110, {}, processOf([[50, 2_100, "curl x"]], imitator));
    const itself = deny(2_120, {}, { ...imitator, ancestry: [], lineage: [] });
    expect(judge(timelineOf(...THREE), curl, itself)).toEqual([
      [2, 0, "ancestry"],
      [2, 0, "ancestry"],
    ]);
  });

  it("is the call before the gap in which an orphan began", () => {
    const orphan = processOf([[50, 700, "beacon"]], null);
    expect(judge(timelineOf(...THREE), deny(2_110, {}, orphan))).toEqual([[2, 0, "ancestry"]]);
  });

  it("is known by descent from what an earlier record of the process said", () => {
    const process = processOf([[50, 210, "python3 late.py"]]);
    const exec = record(215, "process.exec", { process });
    const bare = deny(2_110, {}, { pid: 50, command: "python3 late.py" });
    expect(judge(timelineOf(...THREE), exec, bare)).toEqual([
      [0, 0, "ancestry"],
      [2, 0, "ancestry"],
    ]);
  });

  it("is known by descent from another record of the same connection", () => {
    const process = processOf([[50, 210, "ssh -R 1:a:1 b"]]);
    const [held, gone] = [
      deny(390, { flow: "f" }, process),
      record(1_100, "net.capture", { net: { flow: "f" } }),
    ];
    expect(judge(timelineOf(...THREE), held, gone)).toEqual([
      [0, 0, "ancestry"],
      [1, 0, "ancestry"],
    ]);
  });

  it("is not believed of a process that claims to be younger than what it did", () => {
    const liar = processOf([[50, 2_300, "x"]]);
    expect(judge(timelineOf(...THREE), deny(1_100, {}, liar))).toEqual([[1, 1, "interval"]]);
  });

  it("is never a call that was refused", () => {
    const timeline = timelineOf([0, 400]);
    timeline.refuse(timeline.begin(1, "call_1", START + 1_000), START + 1_001);
    const found = judge(timeline, record(1_100, "dns.query"));
    expect(found).toEqual([[1, 0, "interval"]]);
  });
});

describe("a start that is told in ticks", () => {
  const close = timelineOf([0, 1_000], [1_002, 2_000]);
  it("that two calls may have made is by the interval, with both", () => {
    const attributor = new Attributor(close);
    const found = attributor.attribute(deny(1_500, {}, processOf([[50, 1_000, "x"]])));
    expect(found).toMatchObject({
      how: "interval",
      cause: { chunk: 1 },
      candidates: [{ chunk: 0 }, { chunk: 1 }],
    });
  });

  it("is bounded by the first time that the process was seen", () => {
    const process = processOf([[50, 1_000, "x"]]);
    const [exec, late] = [record(999, "process.exec", { process }), deny(1_500, {}, process)];
    expect(judge(close, exec, late)).toEqual([
      [0, 0, "ancestry"],
      [1, 0, "ancestry"],
    ]);
  });

  it("just before a call is the call's, where no other was running", () => {
    expect(judge(timelineOf(...THREE), deny(1_005, {}, processOf([[50, 995, "x"]])))).toEqual([
      [1, 1, "ancestry"],
    ]);
  });
});

describe("whatever the calls, the processes and the order in which records come", () => {
  const calls = fc.array(fc.record({ gap: fc.nat(60), length: fc.integer({ min: 1, max: 80 }) }), {
    minLength: 1,
    maxLength: 12,
  });
  const acts = fc.array(
    fc.record({
      call: fc.nat(11),
      /** Where in the call its process is started, and how long after that it acts. */
      into: fc.double({ min: 0, max: 1, noNaN: true }),
      delay: fc.double({ min: 0, max: 900, noNaN: true }),
      /** Processes between it and the one that the call started. */
      depth: fc.nat(4),
    }),
    { minLength: 1, maxLength: 20 },
  );

  it("descent names the true call, and where it cannot it says so and names it among the candidates", () => {
    fc.assert(
      fc.property(calls, acts, (gaps, made) => {
        let time = 0;
        const spans = gaps.map(({ gap, length }) => {
          const from = time + gap;
          time = from + length;
          return [from, time] as const;
        });
        const timeline = timelineOf(...spans);
        const attributor = new Attributor(timeline);
        for (const [n, { call, into, delay, depth }] of made.entries()) {
          const truth = call % spans.length;
          const [from, to] = spans[truth]!;
          const start = from + into * (to - from);
          const at = start + delay;
          const tick = (moment: number): number => Math.floor(moment / START_TICK_MS) * START_TICK_MS;
          const chain = Array.from(
            { length: depth + 1 },
            (_, i) => [1_000 + n * 10 + i, tick(start + (delay * (depth - i)) / (depth + 1)), "p"] as const,
          );
          const found = attributor.attribute(deny(at, {}, processOf(chain)))!;
          expect(found.cause.beganAt).toBeLessThanOrEqual(START + at);
          expect(found.cause.chunk).toBeLessThanOrEqual(found.during.chunk);
          expect(START + spans[found.during.chunk]![0]).toBeLessThanOrEqual(START + at);
          if (found.how === "ancestry") expect(found.cause.chunk).toBe(truth);
          else expect(found.candidates?.map(({ chunk }) => chunk)).toContain(truth);
        }
      }),
    );
  });
});
