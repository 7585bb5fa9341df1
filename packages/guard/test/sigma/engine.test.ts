import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compileRules } from "../../src/sigma/engine.ts";
import { loadRules } from "../../src/sigma/load.ts";

interface Rec {
  at: number;
  kind: string;
  sandbox?: string;
  net?: { ip?: string; port?: number; bytesUp?: number };
}

const base = `title: Refused
name: refused
level: informational
logsource: { category: net.deny }
detection: { any: { kind: net.deny }, condition: any }
---
title: Flow
name: flow
level: informational
logsource: { category: net.flow }
detection: { any: { kind: net.flow }, condition: any }
`;
const correlation = (body: string): string => `${base}---
title: C
name: c
level: high
tags: [attack.t1046, ale.safety-and-security]
correlation: ${body}
`;

function engineOf(text: string) {
  const { rules, faults } = loadRules(text, "r.yml");
  expect(faults).toEqual([]);
  const engine = compileRules<Rec>(rules);
  return (record: Partial<Rec> & { at: number }): string[] =>
    engine.feed({ kind: "net.deny", sandbox: "a", ...record }).map(({ rule }) => rule.name);
}

describe("a correlation", () => {
  it("counts events within the timespan only", () => {
    const feed = engineOf(
      correlation("{ type: event_count, rules: [refused], timespan: 10s, condition: { gte: 3 } }"),
    );
    expect([0, 6_000, 12_000].map((at) => feed({ at }))).toEqual([[], [], []]);
    expect(feed({ at: 13_000 })).toEqual(["c"]);
  });

  it("counts each group by itself", () => {
    const feed = engineOf(
      correlation("{ type: event_count, rules: [refused], timespan: 10s, condition: { gte: 2 } }"),
    );
    expect(feed({ at: 0, sandbox: "a" })).toEqual([]);
    expect(feed({ at: 1, sandbox: "b" })).toEqual([]);
    expect(feed({ at: 2, sandbox: "b" })).toEqual(["c"]);
  });

  it("counts distinct values, and records without the field not at all", () => {
    const feed = engineOf(
      correlation(
        "{ type: value_count, rules: [refused], timespan: 10s, condition: { field: net.port, gt: 1 } }",
      ),
    );
    expect(feed({ at: 0, net: { port: 1 } })).toEqual([]);
    expect(feed({ at: 1, net: { port: 1 } })).toEqual([]);
    expect(feed({ at: 2 })).toEqual([]);
    expect(feed({ at: 3, net: { port: 2 } })).toEqual(["c"]);
  });

  it("adds values up", () => {
    const feed = engineOf(
      correlation(
        "{ type: value_sum, rules: [flow], timespan: 1m, condition: { field: net.bytesUp, gte: 100 } }",
      ),
    );
    expect(feed({ at: 0, kind: "net.flow", net: { bytesUp: 60 } })).toEqual([]);
    expect(feed({ at: 1, kind: "net.flow", net: { bytesUp: 60 } })).toEqual(["c"]);
  });

  it("wants all of its rules, in any order or in theirs", () => {
    const together = engineOf(correlation("{ type: temporal, rules: [refused, flow], timespan: 10s }"));
    expect(together({ at: 0, kind: "net.flow" })).toEqual([]);
    expect(together({ at: 1 })).toEqual(["c"]);
    const ordered = engineOf(
      correlation("{ type: temporal_ordered, rules: [refused, flow], timespan: 10s }"),
    );
    expect(ordered({ at: 0, kind: "net.flow" })).toEqual([]);
    expect(ordered({ at: 1 })).toEqual([]);
    expect(ordered({ at: 2, kind: "net.flow" })).toEqual(["c"]);
  });

  it("speaks once for what goes on, and again after it was quiet for the timespan", () => {
    const feed = engineOf(
      correlation("{ type: event_count, rules: [refused], timespan: 1s, condition: { gte: 2 } }"),
    );
    const told = Array.from({ length: 30 }, (_, i) => feed({ at: i * 100 })).flat();
    expect(told.length).toBe(3);
  });

  it("counts what comes late where it belongs, and what comes too late not at all", () => {
    const feed = engineOf(
      correlation(
        "{ type: value_count, rules: [refused], timespan: 10s, condition: { field: net.port, gte: 3 } }",
      ),
    );
    const port = (at: number, number: number) => feed({ at, net: { port: number } });
    expect(port(20_000, 1)).toEqual([]);
    expect(port(9_000, 2)).toEqual([]);
    expect(port(15_000, 3)).toEqual([]);
    expect(port(12_000, 4)).toEqual(["c"]);
  });

  it("forgets what is older than the timespan, whatever came in between", () => {
    const kinds = {
      value_count: "condition: { field: net.port, gte: 3 }",
      value_sum: "condition: { field: net.port, gte: 60 }",
      event_count: "condition: { gte: 3 }",
    };
    const model = (type: string, inside: readonly { port: number }[]): boolean => {
      const ports = inside.map(({ port }) => port);
      if (type === "value_count") return new Set(ports).size >= 3;
      return type === "event_count" ? ports.length >= 3 : ports.reduce((a, b) => a + b, 0) >= 60;
    };
    fc.assert(
      fc.property(
        fc.constantFrom<keyof typeof kinds>("value_count", "value_sum", "event_count"),
        fc.array(fc.record({ step: fc.nat(700), port: fc.integer({ min: 1, max: 40 }) }), { maxLength: 60 }),
        (type, steps) => {
          const feed = engineOf(
            correlation(`{ type: ${type}, rules: [refused], timespan: 1s, ${kinds[type]} }`),
          );
          let [at, quietUntil] = [0, -1];
          const before: { at: number; port: number }[] = [];
          for (const { step, port } of steps) {
            at += step;
            before.push({ at, port });
            const fires =
              at >= quietUntil &&
              model(
                type,
                before.filter((one) => one.at >= at - 1_000),
              );
            expect(feed({ at, net: { port } })).toEqual(fires ? ["c"] : []);
            if (fires) quietUntil = at + 1_000;
          }
        },
      ),
    );
  });

  it("says which group, how many, and in how long", () => {
    const { rules } = loadRules(
      correlation("{ type: event_count, rules: [refused], timespan: 10s, condition: { gte: 2 } }"),
      "r.yml",
    );
    const engine = compileRules<Rec>(rules);
    engine.feed({ at: 5, kind: "net.deny", sandbox: "a" });
    const [match] = engine.feed({ at: 9, kind: "net.deny", sandbox: "a" });
    expect(match?.correlated).toEqual({ group: ["a"], count: 2, spanMs: 4 });
  });

  it("forgets the group that was quiet longest before it holds too many", () => {
    const feed = engineOf(
      correlation("{ type: event_count, rules: [refused], timespan: 1h, condition: { gte: 2 } }"),
    );
    feed({ at: 0, sandbox: "first" });
    for (let i = 0; i < 10_000; i++) feed({ at: 1, sandbox: `s${i}` });
    expect(feed({ at: 2, sandbox: "first" })).toEqual([]);
    expect(feed({ at: 2, sandbox: "s9999" })).toEqual(["c"]);
  });
});

describe("rules that cannot be run together are refused", () => {
  it("two of one name", () => {
    const { rules } = loadRules(base, "r.yml");
    expect(() => compileRules([...rules, rules[0]!])).toThrow("two rules are called refused");
  });

  it("a correlation over a rule that is not there", () => {
    const { rules } = loadRules(
      correlation("{ type: event_count, rules: [nothing], timespan: 1s, condition: { gte: 2 } }"),
      "r.yml",
    );
    expect(() => compileRules(rules)).toThrow("c counts the rule nothing, which is not there");
  });
});
