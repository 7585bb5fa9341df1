import type { Instance, ToolCall } from "@ale/core";
import { describe, expect, it } from "vitest";
import { allRules, EpisodeMonitor, type Rule, type RuleCase } from "../src/index.ts";
import { instanceWith } from "./instance.ts";

/** Every rule carries the calls that must and must not set it off; this is where they are tried, against the whole pack. */

const call = (item: RuleCase): ToolCall =>
  typeof item === "string"
    ? { id: "call_1", name: "bash", arguments: { command: item } }
    : { id: "call_1", name: item.name, arguments: { ...item.arguments } };

const instanceFor = (rule: Rule): Instance =>
  instanceWith(
    ...(rule.source === "protected-path" ? rule.protects.map((entry) => ({ ...entry, rule: rule.id })) : []),
  );

const rulesFiredBy = (rule: Rule, item: RuleCase): string[] =>
  new EpisodeMonitor(instanceFor(rule), []).afterCall(0, call(item), []).alerts.map((alert) => alert.rule);

const title = (item: RuleCase): string => (typeof item === "string" ? item : JSON.stringify(item));

for (const rule of allRules) {
  describe(`${rule.id}: ${rule.title}`, () => {
    for (const item of rule.cases.fires)
      it(`fires on ${title(item)}`, () => expect(rulesFiredBy(rule, item)).toContain(rule.id));
    for (const item of rule.cases.silent)
      it(`is silent on ${title(item)}`, () => expect(rulesFiredBy(rule, item)).not.toContain(rule.id));
  });
}

describe("the rule pack", () => {
  it("has unique ids", () => expect(new Set(allRules.map((rule) => rule.id)).size).toBe(allRules.length));
  it("names an ATT&CK technique in every rule", () => {
    for (const rule of allRules) expect(rule.technique).toMatch(/^T\d{4}(\.\d{3})?$/);
  });
  it("tries every rule on both sides", () => {
    for (const { cases } of allRules)
      expect(Math.min(cases.fires.length, cases.silent.length)).toBeGreaterThanOrEqual(3);
  });
});
