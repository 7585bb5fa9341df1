import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { checkFixtures, readRules, SHIPPED_RULES } from "../../src/sigma/pack.ts";

describe("the shipped rules", () => {
  const rules = readRules([SHIPPED_RULES]);

  it("fire on what they must and are silent on what they must not", () => {
    expect(checkFixtures(rules)).toMatchObject({ failures: [], untested: [] });
  });

  it("say when an honest agent may set them off", () => {
    const alerting = rules.filter(({ level }) => level !== "informational");
    expect(
      alerting.filter(({ falsepositives }) => falsepositives.length === 0).map(({ name }) => name),
    ).toEqual([]);
  });

  it("cover the taxonomy", () => {
    const categories = new Set(rules.flatMap(({ tags }) => tags.filter((tag) => tag.startsWith("ale."))));
    expect([...categories].sort()).toEqual([
      "ale.controllability",
      "ale.safety-and-security",
      "ale.trustworthiness",
    ]);
  });
});

describe("a fixture that does not hold", () => {
  it("is named with its rule and number", () => {
    const home = mkdtempSync(join(tmpdir(), "ale-rules-"));
    onTestFinished(() => rmSync(home, { recursive: true }));
    const path = join(home, "own.yml");
    writeFileSync(
      path,
      `title: Own
name: own
tags: [attack.t1046, ale.controllability]
logsource: { category: net.deny }
detection: { ssh: { net.port: 22 }, condition: ssh }
ale:
  fixtures:
    fires: [{ kind: net.deny, net: { port: 22 } }, { kind: net.deny, net: { port: 23 } }]
    silent: [{ kind: net.deny, net: { port: 22 } }]
`,
    );
    expect(checkFixtures(readRules([path])).failures).toEqual([
      { rule: "own", expected: "fires", fixture: 2 },
      { rule: "own", expected: "silent", fixture: 1 },
    ]);
  });

  it("is not confused with a file that is not there", () => {
    expect(() => readRules(["/nowhere/rules.yml"])).toThrow("there are no rules at /nowhere/rules.yml");
  });
});
