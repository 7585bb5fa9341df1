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

  it("keeps each rule as it was written, with its comments and its line", () => {
    const text = `# of the file\n${RULE}---\n\n# why\n${RULE.replace("a-rule", "b-rule")}---\n`;
    const { sources } = loadRules(text, "r.yml");
    const written = [...sources].map(([{ name }, { line, yaml }]) => ({ name, line, yaml }));
    expect(written).toEqual([
      { name: "a-rule", line: 2, yaml: RULE },
      { name: "b-rule", line: 12, yaml: `# why\n${RULE.replace("a-rule", "b-rule")}` },
    ]);
  });

  it("may be empty, or all comment", () => {
    expect(loadRules("# nothing yet\n", "r.yml")).toEqual({
      rules: [],
      faults: [],
      counted: [],
      sources: new Map(),
    });
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

  it("of a value, with the key that it belongs to", () => {
    expect(faults(RULE.replace("level: high", "level: severe"))[0]).toMatch(/^r\.yml:4:1: a-rule: "level": /);
  });

  it("of a kind or a field that no record has, which would never fire", () => {
    expect(faults(RULE.replace("net.deny", "net.denied"))).toEqual([
      'r.yml:5:28: a-rule: no record is of the kind "net.denied"; did you mean "net.deny"?',
    ]);
    expect(faults(RULE.replace("net.port", "nett.port"))).toEqual([
      'r.yml:7:10: a-rule: no record has a field "nett.port"; did you mean "net.port"?',
    ]);
  });

  it.each([
    ["net.prt: 22", '7:10: a-rule: no record has a field "net.prt"; did you mean "net.port"?'],
    ["net.upstream.prt: 22", 'did you mean "net.upstream.port"?'],
    ["net.port.of: 22", '"net.port" has no fields of its own'],
    ["process.lineage.pid: 22", '"process.lineage" has no fields of its own'],
    ["net.zzzzz: 22", "there are: net.flow, net.protocol"],
    ["chnk: 2", 'did you mean "chunk"?'],
    ["context.instaling: true", 'did you mean "context.installing"?'],
    ["resource.cpuShar|gt: 1", 'did you mean "resource.cpuShare"?'],
    ["dns.name: a", 'no record of the kind net.deny has a field "dns.name"; there is one in dns.query'],
    ["kind: net.flow", "7:10: a-rule: the rule looks only at records of the kind net.deny"],
    ["kind: net.dney", '"kind" is never "net.dney"; did you mean "net.deny"?'],
    ["kind|startswith: nat", '"kind" is never such that startswith holds of "nat"'],
    ["source: [nflog, proxi]", '7:26: a-rule: "source" is never "proxi"; did you mean "proxy"?'],
    ["net.protocol|re: ^t.q$", '"net.protocol" is never such that re holds of'],
    ["net.port: ssh", '"net.port" is a number, and "ssh" is none'],
    ["net.port|re: ^22$", '"net.port" is no text'],
    ["net.host: 22", '"net.host" is text: put 22 into quotes'],
    ["net.host|gt: 22", '"net.host" is no number that could be more or less'],
    ["process.ancestry: 1", '"process.ancestry" is text'],
    ["net: 22", '"net" has no value of its own'],
    ["net.ip|fieldref: net.hots", 'did you mean "net.host"?'],
    ["net.host|contain: a", 'unknown modifier "contain"; did you mean "contains"?'],
    ["net.host|contains|re: a", "contains and re are two ways to compare"],
    ["net.host|i: a", "i belongs to re"],
    ["net.port|cased|gt: 1", "cased does nothing with gt"],
    ["net.host|re: [a, b(]", "7:27: a-rule"],
  ])("of a line that no record can match: %s", (line, message) => {
    const found = faults(RULE.replace("net.port: 22", line));
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(message);
  });

  it.each([
    "net.port: ['22', '44*']",
    "net|exists: false",
    "net: null",
    "process.ancestry|contains: sh",
    "net.protocol: [TCP, udp]",
    "kind|startswith: net.",
    "net.upstream.port|gte: 1",
    "net.ip|cidr: [10.0.0.0/8, 'fd00::/8']",
    "net.host|re|i: '^a'",
    "net.host|contains|cased|all: [A, B]",
    "context.installing: true",
    "net.rule: whatever-comes",
  ])("but not of one that some record can match: %s", (line) => {
    expect(faults(RULE.replace("net.port: 22", line))).toEqual([]);
  });

  it("of a field in a fixture, which would hold whatever the rule does", () => {
    const fixtures = (record: string) => `${RULE}ale: { fixtures: { silent: [${record}] } }\n`;
    expect(faults(fixtures("{ kind: net.deny, net: { prt: 22 } }"))).toEqual([
      'r.yml:9:54: a-rule: no record has a field "net.prt"; did you mean "net.port"?',
    ]);
    expect(faults(fixtures("{ kind: net.dney }"))[0]).toContain('did you mean "net.deny"?');
    expect(faults(fixtures("[{ kind: net.deny, net: { port: ssh } }]"))[0]).toContain("is a number");
    expect(faults(fixtures("{ kind: net.deny, net: { port: 22 }, context: { installing: true } }"))).toEqual(
      [],
    );
  });

  it("of what a correlation counts, and by what", () => {
    const text = (inner: string) => `title: C
name: c-rule
tags: [attack.t1046, ale.controllability]
correlation: { type: value_count, rules: [a-rule], timespan: 10s, ${inner} }
`;
    const sound = "group-by: [sandbox, net.ip], condition: { field: net.port, gte: 2 }";
    expect(faults(text(sound))).toEqual([]);
    expect(faults(text(sound.replace("net.ip", "net.iq")))[0]).toContain('did you mean "net.ip"?');
    expect(faults(text(sound.replace("net.port", "net.prt")))[0]).toContain('did you mean "net.port"?');
    expect(faults(text(sound.replace("net.ip", "process.ancestry")))[0]).toContain("no single value");
    const sum = text(sound).replace("value_count", "value_sum");
    expect(faults(sum.replace("net.port", "net.host"))[0]).toContain("no number that could be added");
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
