import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { compileRules } from "../../src/sigma/engine.ts";
import { checkFixtures, readRules, SHIPPED_RULES } from "../../src/sigma/pack.ts";
import { ruleReference } from "../../src/sigma/reference.ts";

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

  it("are described in the reference", () => {
    const page = resolve(import.meta.dirname, "../../../../docs/reference/guard-rules.md");
    // If this fails: node scripts/make-guard-reference.ts
    expect(readFileSync(page, "utf8")).toBe(ruleReference(rules));
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

describe("a rule of a user's pack", () => {
  const own = (more: string): string => {
    const home = mkdtempSync(join(tmpdir(), "ale-rules-"));
    onTestFinished(() => rmSync(home, { recursive: true }));
    const path = join(home, "own.yml");
    writeFileSync(
      path,
      `title: Many ports, said otherwise
name: port-scan
tags: [attack.t1046, ale.controllability]
level: low
logsource: { category: net.deny }
detection: { any: { net.rule: scan }, condition: any }
ale: { ${more} }
`,
    );
    return path;
  };

  it("takes the place of one that ships only where it says so", () => {
    const rules = readRules([SHIPPED_RULES, own("overrides: true")]);
    expect(rules.filter(({ name }) => name === "port-scan")).toMatchObject([{ level: "low" }]);
    expect(() => compileRules(readRules([SHIPPED_RULES, own("response: warn")]))).toThrow(
      "two rules are called port-scan",
    );
  });

  it("cannot take the place of one that is not there", () => {
    expect(() => readRules([own("overrides: true")])).toThrow("port-scan overrides a rule that is not there");
  });
});

describe("a pack without a rule", () => {
  it("is refused: who names one means to be watched by it", () => {
    const folder = mkdtempSync(join(tmpdir(), "ale-pack-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    expect(() => readRules([folder])).toThrow("there is no rule in");
    writeFileSync(join(folder, "a.yml"), "# nothing yet\n");
    expect(() => readRules([SHIPPED_RULES, join(folder, "a.yml")])).toThrow("there is no rule in");
  });
});
