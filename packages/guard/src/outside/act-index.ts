import type { Act } from "./act.ts";
import type { OutsideAlarm } from "./alarm.ts";
import { isSandbox, programsOf } from "./likeness.ts";

/** Finds the acts that may be what an alarm tells of, by what both say and by time, without looking at the others. */
export class ActIndex<A extends Act> {
  readonly #lists = new Map<string, TimedList<A>>();
  readonly #all = new TimedList<A>();
  readonly #sandboxes = new Set<string>();
  readonly #sandboxesOf = new Map<string, readonly string[]>();

  constructor(acts: readonly A[]) {
    for (const act of acts) {
      this.#all.add(act);
      if (act.sandbox !== null) this.#sandboxes.add(act.sandbox);
      for (const key of keysOf(act)) {
        const list = this.#lists.get(key) ?? new TimedList<A>();
        this.#lists.set(key, list);
        list.add(act);
      }
    }
    this.#all.sort();
    for (const list of this.#lists.values()) list.sort();
  }

  /** Acts that have something in common with it and went on at some time from `fromMs` to `toMs`; each once. */
  near(alarm: OutsideAlarm, fromMs: number, toMs: number): readonly A[] {
    const lists = this.#listsOf(alarm);
    if (lists.length === 1) return lists[0]!.between(fromMs, toMs);
    return [...new Set(lists.flatMap((list) => list.between(fromMs, toMs)))];
  }

  /** How many those are, at least: at its address where there are any. They are not looked at. */
  count(alarm: OutsideAlarm, fromMs: number, toMs: number): number {
    const there = alarm.toIp === null ? undefined : this.#lists.get(`ip ${alarm.toIp}`);
    const count = there?.count(fromMs, toMs) ?? 0;
    if (count > 0) return count;
    return this.#listsOf(alarm).reduce((most, list) => Math.max(most, list.count(fromMs, toMs)), 0);
  }

  /** Whether anything went on then. */
  hasAny(fromMs: number, toMs: number): boolean {
    return this.#all.count(fromMs, toMs) > 0;
  }

  #listsOf(alarm: OutsideAlarm): TimedList<A>[] {
    const facts = [
      ["host", alarm.host?.toLowerCase()],
      ["from", alarm.fromPort],
      ["source", alarm.toIp === null && alarm.toPort === null && alarm.host === null ? alarm.fromIp : null],
      ["pid", alarm.pid],
      ...programsOf(alarm).map((name) => ["program", name] as const),
      ["path", alarm.path],
      // Many acts have a port in common: it is looked for where nothing says more of the place.
      ["port", alarm.toIp === null && alarm.host === null ? alarm.toPort : null],
      ...alarm.containers.flatMap((name) => this.#sandboxesNamed(name).map((id) => ["sandbox", id] as const)),
    ] as const;
    // An act whose address is known is found by it alone.
    const where = alarm.toIp === null ? "" : "?";
    const keys = facts.flatMap(([kind, value]) =>
      value === null || value === undefined ? [] : [`${where}${kind} ${value}`],
    );
    if (alarm.toIp !== null) keys.push(`ip ${alarm.toIp}`);
    return keys.flatMap((key) => this.#lists.get(key) ?? []);
  }

  #sandboxesNamed(name: string): readonly string[] {
    const known = this.#sandboxesOf.get(name);
    if (known !== undefined) return known;
    const found = [...this.#sandboxes].filter((id) => isSandbox(name, id));
    this.#sandboxesOf.set(name, found);
    return found;
  }
}

/** Of an act without an address a second time, marked, for alarms that have one. */
function keysOf(act: Act): string[] {
  const keys: string[] = [];
  const add = (kind: string, value: string | number | null | undefined): void => {
    if (value !== null && value !== undefined) keys.push(`${kind} ${value}`);
  };
  add("host", act.host?.toLowerCase());
  add("from", act.fromPort);
  add("source", act.fromIp);
  add("pid", act.pid);
  for (const name of programsOf(act)) add("program", name);
  add("path", act.path);
  add("port", act.port);
  add("sandbox", act.sandbox);
  return act.ip === null ? [...keys, ...keys.map((key) => `?${key}`)] : [...keys, `ip ${act.ip}`];
}

/** Acts by time. Long ones stand apart, so that they do not widen the search for short ones. */
class TimedList<A extends Act> {
  readonly #classes = new Map<number, { readonly longestMs: number; readonly acts: A[] }>();

  add(act: A): void {
    const longestMs = 10 ** Math.ceil(Math.log10(Math.max(1_000, act.durationMs)));
    const found = this.#classes.get(longestMs);
    if (found === undefined) this.#classes.set(longestMs, { longestMs, acts: [act] });
    else found.acts.push(act);
  }

  sort(): void {
    for (const { acts } of this.#classes.values()) acts.sort((a, b) => a.at - b.at);
  }

  between(fromMs: number, toMs: number): A[] {
    const found: A[] = [];
    for (const { longestMs, acts } of this.#classes.values())
      for (let i = firstFrom(acts, fromMs - longestMs); i < acts.length && acts[i]!.at <= toMs; i++)
        if (acts[i]!.at + acts[i]!.durationMs >= fromMs) found.push(acts[i]!);
    return found;
  }

  count(fromMs: number, toMs: number): number {
    let count = 0;
    for (const { longestMs, acts } of this.#classes.values())
      count += firstFrom(acts, toMs, true) - firstFrom(acts, fromMs - longestMs);
    return count;
  }
}

/** Index of the first act at or after a time; `after`: after it. */
function firstFrom(acts: readonly Act[], ms: number, after = false): number {
  let [low, high] = [0, acts.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const { at } = acts[middle]!;
    if (after ? at <= ms : at < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
