import { suggest } from "@ale/core";
import { isMap, isNode, isScalar, LineCounter, type Node, parseAllDocuments } from "yaml";
import type { z } from "zod";
import type { RuleFault } from "./fault.ts";
import { type Located, ruleFaults } from "./faults.ts";
import { CorrelationRule, EventRule, isCorrelation, type SigmaRule } from "./rule.ts";

/** Reads rule files. Every fault of a file is reported at once, each at its line and column. Pure. */

export interface LoadResult {
  readonly rules: readonly SigmaRule[];
  readonly faults: readonly RuleFault[];
  /** Rules that correlations count, which may be in another file, each with where it is named. */
  readonly counted: readonly CountedRule[];
  readonly sources: ReadonlyMap<SigmaRule, RuleSource>;
}

/** A rule as somebody wrote it, with its comments. */
export interface RuleSource {
  readonly file: string;
  /** Of its first line, from 1. */
  readonly line: number;
  readonly yaml: string;
}

export interface CountedRule {
  readonly name: string;
  /** What to say where there is no such rule. */
  readonly fault: RuleFault;
}

/** One file may hold several rules as YAML documents, parted by `---`. `file` is only for messages. */
export function loadRules(text: string, file: string): LoadResult {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const rules: SigmaRule[] = [];
  const faults: RuleFault[] = [];
  const counted: CountedRule[] = [];
  const sources = new Map<SigmaRule, RuleSource>();
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
    if (rule === null || found.length > 0) continue;
    rules.push(rule);
    const { from, yaml } = documentText(text, document.range);
    sources.set(rule, { file, line: at(from).line, yaml });
    if (isCorrelation(rule))
      for (const [i, one] of rule.correlation.rules.entries()) {
        const message = `counts the rule "${one}", which is not there`;
        counted.push({
          name: one,
          fault: { file, ...place(["correlation", "rules", i]), rule: name, message },
        });
      }
  }
  return { rules, faults, counted, sources };
}

/** A document's text without the lines that part it from others. */
function documentText(
  text: string,
  [from, , to]: readonly [number, number, number],
): { from: number; yaml: string } {
  const head = /^(?:---[^\n]*\n|\s*\n)*/.exec(text.slice(from, to))![0].length;
  return {
    from: from + head,
    yaml: `${text
      .slice(from + head, to)
      .replace(/\n(?:---|\.\.\.)\s*$/, "")
      .trimEnd()}\n`,
  };
}

function parseRule(raw: unknown): { rule: SigmaRule | null; faults: readonly Located[] } {
  const isCorrelation = typeof raw === "object" && raw !== null && "correlation" in raw;
  const parsed = isCorrelation ? CorrelationRule.safeParse(raw) : EventRule.safeParse(raw);
  if (!parsed.success) return { rule: null, faults: parsed.error.issues.map((issue) => locate(issue, raw)) };
  return { rule: parsed.data, faults: ruleFaults(parsed.data) };
}

function locate(issue: z.core.$ZodIssue, raw: unknown): Located {
  if (issue.code !== "unrecognized_keys") {
    const where = issue.path.length === 0 ? "" : `"${issue.path.join(".")}": `;
    return { path: issue.path, message: `${where}${issue.message}` };
  }
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
