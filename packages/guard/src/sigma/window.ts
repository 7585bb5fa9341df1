import { reader } from "./field.ts";
import type { CorrelationRule } from "./rule.ts";

/**
 * The memory of one correlation: for each group, what matched within the timespan. Bounded: the group that was quiet longest goes first,
 * and of one group only as much is kept as decides. Time is the records' own, so that a recorded episode gives the same again.
 */

const MAX_GROUPS = 10_000;
const MAX_ENTRIES = 4_096;
const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;

export function timespanMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  if (match === null) throw new RangeError(`not a timespan: ${text}`);
  return Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
}

interface Entry {
  readonly at: number;
  readonly rule: string;
  readonly value: unknown;
}

interface Group {
  entries: Entry[];
  /** No second alert before this time: the first one stands for what goes on. */
  quietUntil: number;
}

export interface Correlated {
  /** Values of the group-by fields, in their order. */
  readonly group: readonly unknown[];
  readonly count: number;
  /** Milliseconds between the first and the last record that counted. */
  readonly spanMs: number;
}

export class Window {
  readonly #rule: CorrelationRule["correlation"];
  readonly #spanMs: number;
  readonly #least: number;
  readonly #keys: readonly ((record: object) => unknown)[];
  readonly #value: ((record: object) => unknown) | undefined;
  readonly #groups = new Map<string, Group>();

  constructor(rule: CorrelationRule) {
    this.#rule = rule.correlation;
    this.#spanMs = timespanMs(rule.correlation.timespan);
    const { condition } = rule.correlation;
    this.#least =
      condition?.gte ?? (condition?.gt === undefined ? rule.correlation.rules.length : condition.gt + 1);
    this.#keys = rule.correlation["group-by"].map(reader);
    this.#value = condition?.field === undefined ? undefined : reader(condition.field);
  }

  /** Takes a record that one of its rules matched. Undefined: nothing to tell yet. */
  add(rule: string, record: { readonly at: number }): Correlated | undefined {
    const values = this.#keys.map((key) => key(record));
    const group = this.#group(JSON.stringify(values));
    const value = this.#value?.(record);
    if (this.#value !== undefined && value === undefined) return undefined;
    const since = record.at - this.#spanMs;
    if (group.entries.length > 0 && group.entries[0]!.at < since)
      group.entries = group.entries.filter((entry) => entry.at >= since);
    if (group.entries.length >= MAX_ENTRIES) group.entries.shift();
    group.entries.push({ at: record.at, rule, value });
    const count = this.#count(group.entries);
    if (count < this.#least || record.at < group.quietUntil) return undefined;
    group.quietUntil = record.at + this.#spanMs;
    return { group: values, count, spanMs: record.at - group.entries[0]!.at };
  }

  #count(entries: readonly Entry[]): number {
    switch (this.#rule.type) {
      case "event_count":
        return entries.length;
      case "value_count":
        return new Set(entries.map((entry) => entry.value)).size;
      case "value_sum":
        return entries.reduce((sum, entry) => sum + (Number(entry.value) || 0), 0);
      case "temporal":
        return new Set(entries.map((entry) => entry.rule)).size;
      case "temporal_ordered":
        return inOrder(this.#rule.rules, entries);
      default:
        return this.#rule.type satisfies never;
    }
  }

  /** A group that is used becomes the youngest. */
  #group(key: string): Group {
    const known = this.#groups.get(key);
    if (known !== undefined) {
      this.#groups.delete(key);
      this.#groups.set(key, known);
      return known;
    }
    const oldest = this.#groups.size >= MAX_GROUPS ? this.#groups.keys().next().value : undefined;
    if (oldest !== undefined) this.#groups.delete(oldest);
    const fresh = { entries: [], quietUntil: Number.NEGATIVE_INFINITY };
    this.#groups.set(key, fresh);
    return fresh;
  }
}

/** How many of the rules have matched, each after the one before it. */
function inOrder(rules: readonly string[], entries: readonly Entry[]): number {
  let next = 0;
  for (const entry of entries) if (entry.rule === rules[next]) next++;
  return next;
}
