import { describe, expect, it } from "vitest";
import { faultText } from "../../src/sigma/fault.ts";
import { loadRules } from "../../src/sigma/load.ts";

const RULE = `title: A rule
name: a-rule
tags: [attack.t1046, ale.safety-and-security]
level: high
logsource: { product: ale, category: net.deny }
detection:
  one: { net.port: 22 }
  condition: one
`;

const faults = (text: string): string[] => loadRules(text, "r.yml").faults.map(faultText);

describe("a rule file", () => {
  it("holds several rules", () => {
    const second = RULE.replace("a-rule", "b-rule");
    expect(loadRules(`${RULE}---\n${second}`, "r.yml")).toMatchObject({
      faults: [],
      rules: [{ name: "a-rule" }, { name: "b-rule" }],
    });
  });

  it("may be empty, or all comment", () => {
    expect(loadRules("# nothing yet\n", "r.yml")).toEqual({ rules: [], faults: [] });
  });
});

describe("a fault is told with its line and column", () => {
  it("of the YAML itself", () => {
    expect(faults("title: [a\nname: b\n")[0]).toMatch(/^r\.yml:[23]:\d+: /);
  });

  it("of a key that is not known, with the one that was meant", () => {
    expect(faults(RULE.replace("level:", "levle:"))).toEqual([
      'r.yml:4:1: a-rule: unknown key "levle"; did you mean "level"?',
    ]);
  });

  it("of a value", () => {
    expect(faults(RULE.replace("level: high", "level: severe"))[0]).toMatch(/^r\.yml:4:1: a-rule: /);
  });

  it("of a modifier", () => {
    expect(faults(RULE.replace("net.port: 22", "net.port|contain: 22"))[0]).toContain(
      'r.yml:7:10: a-rule: unknown modifier "contain"',
    );
  });

  it("of a condition that names a selection that is not there", () => {
    expect(faults(RULE.replace("condition: one", "condition: ones"))).toEqual([
      'r.yml:8:3: a-rule: no selection is called "ones"; did you mean "one"?',
    ]);
  });

  it("of a rule without technique or category", () => {
    expect(faults(RULE.replace("attack.t1046, ", ""))[0]).toContain(
      "r.yml:3:1: a-rule: no tag names an ATT&CK",
    );
    expect(faults(RULE.replace(", ale.safety-and-security", ""))[0]).toContain("no tag names a category");
  });

  it("of a correlation without a bound", () => {
    const text = `title: C
name: c-rule
tags: [attack.t1046, ale.controllability]
correlation: { type: value_count, rules: [a-rule], timespan: 10s }
`;
    expect(faults(text)).toEqual(["r.yml:4:1: c-rule: value_count needs a condition with gte or gt"]);
    expect(faults(text.replace("10s", "ten"))[0]).toContain("a number and ms, s, m or h");
  });

  it("all of a file at once, and the sound rules are still there", () => {
    const text = `${RULE}---\n${RULE.replace("a-rule", "B rule")}---\n${RULE.replace("a-rule", "c-rule").replace("high", "no")}`;
    const loaded = loadRules(text, "r.yml");
    expect(loaded.rules.map(({ name }) => name)).toEqual(["a-rule"]);
    expect(loaded.faults.map(({ line }) => line)).toEqual([11, 22]);
  });
});
