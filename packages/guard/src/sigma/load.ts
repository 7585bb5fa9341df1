import { suggest } from "@ale/core";
import { isMap, isNode, isScalar, LineCounter, type Node, parseAllDocuments } from "yaml";
import type { z } from "zod";
import { isMeant, mentionsOf, parseCondition } from "./condition.ts";
import type { RuleFault } from "./fault.ts";
import { compileField } from "./field.ts";
import { CorrelationRule, Detection, EventRule, factsOf, type Selection, type SigmaRule } from "./rule.ts";

/** Reads rule files. Every fault of a file is reported at once, each at its line and column. Pure. */

export interface LoadResult {
  readonly rules: readonly SigmaRule[];
  readonly faults: readonly RuleFault[];
}

/** One file may hold several rules as YAML documents, parted by `---`. `file` is only for messages. */
export function loadRules(text: string, file: string): LoadResult {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const rules: SigmaRule[] = [];
  const faults: RuleFault[] = [];
  const list = Array.isArray(documents) ? documents : [];
  for (const document of list) {
    const at = (offset: number): { line: number; column: number } => {
      const { line, col } = lines.linePos(offset);
      return { line, column: col };
    };
    const syntax = document.errors[0];
    if (syntax !== undefined) {
      faults.push({ file, ...at(syntax.pos[0]), rule: null, message: syntax.message });
      continue;
    }
    if (document.contents === null) continue;
    const root = document.contents;
    const place = (path: readonly PropertyKey[]): { line: number; column: number } =>
      at(offsetOf(root, path));
    const raw: unknown = document.toJS();
    const { rule, faults: found } = parseRule(raw);
    const name = nameOf(raw);
    faults.push(...found.map(({ path, message }) => ({ file, ...place(path), rule: name, message })));
    if (rule !== null && found.length === 0) rules.push(rule);
  }
  return { rules, faults };
}

interface Located {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

function parseRule(raw: unknown): { rule: SigmaRule | null; faults: readonly Located[] } {
  const isCorrelation = typeof raw === "object" && raw !== null && "correlation" in raw;
  const parsed = isCorrelation ? CorrelationRule.safeParse(raw) : EventRule.safeParse(raw);
  if (!parsed.success) return { rule: null, faults: parsed.error.issues.map((issue) => locate(issue, raw)) };
  const rule = parsed.data;
  const faults = [
    ...tagFaults(rule),
    ...("detection" in rule ? detectionFaults(rule) : correlationFaults(rule)),
  ];
  return { rule, faults };
}

function locate(issue: z.core.$ZodIssue, raw: unknown): Located {
  if (issue.code !== "unrecognized_keys") return { path: issue.path, message: issue.message };
  const [key = ""] = issue.keys;
  const known =
    issue.path.length === 0
      ? Object.keys("correlation" in (raw as object) ? CorrelationRule.shape : EventRule.shape)
      : [];
  const near = suggest(key, known);
  return {
    path: [...issue.path, key],
    message: `unknown key "${key}"${near === undefined ? "" : `; did you mean "${near}"?`}`,
  };
}

function tagFaults(rule: SigmaRule): Located[] {
  const facts = factsOf(rule);
  if (facts.severity === null) return [];
  const faults: Located[] = [];
  if (facts.technique === undefined)
    faults.push({ path: ["tags"], message: "no tag names an ATT&CK technique, e.g. attack.t1572" });
  if (facts.category === undefined)
    faults.push({
      path: ["tags"],
      message: "no tag names a category: ale.safety-and-security, ale.controllability or ale.trustworthiness",
    });
  return faults;
}

function detectionFaults(rule: EventRule): Located[] {
  const { condition, ...rest } = rule.detection;
  const faults: Located[] = [];
  const parsed = Detection.safeParse(rest);
  if (!parsed.success)
    return parsed.error.issues.map((issue) => ({
      path: ["detection", ...issue.path],
      message: "a selection is a map of fields, or a list of such maps",
    }));
  const selections = parsed.data;
  for (const [name, selection] of Object.entries(selections)) faults.push(...fieldFaults(name, selection));
  for (const text of [condition].flat()) faults.push(...conditionFaults(text, Object.keys(selections)));
  return faults;
}

function fieldFaults(name: string, selection: Selection): Located[] {
  const maps = Array.isArray(selection) ? selection : [selection];
  return maps.flatMap((map, i) =>
    Object.entries(map).flatMap(([key, value]): Located[] => {
      const made = compileField(key, value);
      const path = ["detection", name, ...(Array.isArray(selection) ? [i] : []), key];
      return made.ok ? [] : [{ path, message: made.message }];
    }),
  );
}

function conditionFaults(text: string, names: readonly string[]): Located[] {
  const path = ["detection", "condition"];
  const parsed = parseCondition(text);
  if (!parsed.ok) return [{ path, message: `condition, character ${parsed.at + 1}: ${parsed.message}` }];
  return mentionsOf(parsed.condition).flatMap((mention): Located[] => {
    if (mention.type === "name") {
      if (names.includes(mention.name)) return [];
      const near = suggest(mention.name, names);
      return [
        {
          path,
          message: `no selection is called "${mention.name}"${near === undefined ? "" : `; did you mean "${near}"?`}`,
        },
      ];
    }
    if (names.some((name) => isMeant(mention.pattern, name))) return [];
    return [{ path, message: `no selection matches "${mention.pattern}"` }];
  });
}

function correlationFaults(rule: CorrelationRule): Located[] {
  const { type, condition } = rule.correlation;
  const path = ["correlation", "condition"];
  if (type === "temporal" || type === "temporal_ordered")
    return rule.correlation.rules.length < 2
      ? [{ path: ["correlation", "rules"], message: `${type} needs two rules or more` }]
      : [];
  if (condition === undefined || (condition.gte === undefined) === (condition.gt === undefined))
    return [{ path, message: `${type} needs a condition with gte or gt` }];
  if (type !== "event_count" && condition.field === undefined)
    return [{ path, message: `${type} needs condition.field` }];
  return [];
}

function nameOf(raw: unknown): string | null {
  if (typeof raw !== "object" || raw === null) return null;
  const { name, title } = raw as { name?: unknown; title?: unknown };
  return typeof name === "string" ? name : typeof title === "string" ? title : null;
}

/** Where the value at a path begins; of a key that is not there, where its nearest parent does. */
function offsetOf(root: Node, path: readonly PropertyKey[]): number {
  let node: Node = root;
  let offset = root.range?.[0] ?? 0;
  for (const step of path) {
    const pair = isMap(node)
      ? node.items.find((item) => isScalar(item.key) && item.key.value === step)
      : undefined;
    if (pair !== undefined && isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset;
    const next: unknown =
      "get" in node && typeof node.get === "function" ? node.get(step as string, true) : undefined;
    if (!isNode(next)) return offset;
    node = next;
    if (pair === undefined) offset = node.range?.[0] ?? offset;
  }
  return offset;
}
