import { RecentMap } from "../recent-map.ts";
import { reader } from "./field.ts";
import type { CorrelationRule } from "./rule.ts";

/**
 * The memory of one correlation: for each group, what matched within the timespan. Bounded: the group that was quiet longest goes first,
 * and of one group only as much is kept as decides. Time is the records' own, so that a recorded episode gives the same again.
 */

const MAX_GROUPS = 5_000;
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
  readonly #groups = new RecentMap<string, Group>(MAX_GROUPS);

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
    const value = this.#value?.(record);
    if (this.#value !== undefined && value === undefined) return undefined;
    const group = this.#group(values.length === 1 ? textOf(values[0]) : JSON.stringify(values));
    group.add({ at: record.at, rule, value }, this.#spanMs);
    const count = this.#count(group);
    if (count < this.#least || record.at < group.quietUntil) return undefined;
    group.quietUntil = record.at + this.#spanMs;
    return { group: values, count, spanMs: group.spanMs };
  }

  #count(group: Group): number {
    switch (this.#rule.type) {
      case "event_count":
        return group.size;
      case "value_count":
      case "temporal":
        return group.distinct;
      case "value_sum":
        return group.sum;
      case "temporal_ordered":
        return inOrder(this.#rule.rules, group.entries());
      default:
        return this.#rule.type satisfies never;
    }
  }

  #group(key: string): Group {
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    const fresh = new Group(this.#rule.type);
    this.#groups.set(key, fresh);
    return fresh;
  }
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify([value]));

/** What counts at present, in the order of time, with its sums kept up to date, so that a flood costs no more for each record than a trickle. */
class Group {
  readonly #of: (entry: Entry) => unknown;
  readonly #times = new Map<unknown, number>();
  #entries: Entry[] = [];
  /** Entries before this one are gone. */
  #first = 0;
  #newest = Number.NEGATIVE_INFINITY;
  sum = 0;
  /** No second alert before this time: the first one stands for what goes on. */
  quietUntil = Number.NEGATIVE_INFINITY;

  constructor(type: CorrelationRule["correlation"]["type"]) {
    this.#of = type === "temporal" ? (entry) => entry.rule : (entry) => entry.value;
  }

  get size(): number {
    return this.#entries.length - this.#first;
  }

  get distinct(): number {
    return this.#times.size;
  }

  get spanMs(): number {
    return this.size === 0 ? 0 : this.#newest - this.#entries[this.#first]!.at;
  }

  entries(): readonly Entry[] {
    return this.#entries.slice(this.#first);
  }

  /** Records may come late; what is older than the timespan by then counts no more. */
  add(entry: Entry, timespanMs: number): void {
    this.#newest = Math.max(this.#newest, entry.at);
    const since = this.#newest - timespanMs;
    while (this.size > 0 && (this.#entries[this.#first]!.at < since || this.size >= MAX_ENTRIES))
      this.#drop();
    if (entry.at < since) return;
    let place = this.#entries.length;
    while (place > this.#first && this.#entries[place - 1]!.at > entry.at) place--;
    if (place === this.#entries.length) this.#entries.push(entry);
    else this.#entries.splice(place, 0, entry);
    const value = this.#of(entry);
    this.#times.set(value, (this.#times.get(value) ?? 0) + 1);
    this.sum += Number(entry.value) || 0;
  }

  #drop(): void {
    const entry = this.#entries[this.#first++]!;
    const value = this.#of(entry);
    const left = this.#times.get(value)! - 1;
    if (left === 0) this.#times.delete(value);
    else this.#times.set(value, left);
    this.sum -= Number(entry.value) || 0;
    if (this.#first < MAX_ENTRIES) return;
    this.#entries = this.#entries.slice(this.#first);
    this.#first = 0;
  }
}

/** How many of the rules have matched, each after the one before it. */
function inOrder(rules: readonly string[], entries: readonly Entry[]): number {
  let next = 0;
  for (const entry of entries) if (entry.rule === rules[next]) next++;
  return next;
}
