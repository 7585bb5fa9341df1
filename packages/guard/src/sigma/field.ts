import { isWithin, parseIp, parseNetwork } from "@ale/core";
import { compilePattern } from "./pattern.ts";
import { meant } from "./schema.ts";
import { textTest } from "./text.ts";

/**
 * One line of a selection: a field, modifiers, and the values of which one must match (`|all`: every one). Source: Sigma specification
 * 2.0, "Modifiers". Text is compared without regard to case unless `|cased`; `*` and `?` are wildcards, `\*` is a star.
 */

export type Scalar = string | number | boolean | null;
export type FieldTest = (record: object) => boolean;
type ValueTest = (value: unknown) => boolean;

export const MODIFIERS = [
  "contains",
  "startswith",
  "endswith",
  "re",
  "i",
  "cidr",
  "gt",
  "gte",
  "lt",
  "lte",
  "all",
  "cased",
  "exists",
  "fieldref",
] as const;
export type Modifier = (typeof MODIFIERS)[number];

export type FieldResult =
  | { readonly ok: true; readonly test: FieldTest }
  /** `index`: which of the values it is, of a list. */
  | { readonly ok: false; readonly message: string; readonly index?: number };

/** Compiles `key: value` of a selection, e.g. `process.command|contains|all: [-R, ssh]`. */
export function compileField(key: string, value: Scalar | readonly Scalar[]): FieldResult {
  const [field = "", ...modifiers] = key.split("|");
  const unknown = modifiers.find((modifier) => !(MODIFIERS as readonly string[]).includes(modifier));
  if (field === "") return { ok: false, message: `"${key}" names no field` };
  if (unknown !== undefined)
    return { ok: false, message: `unknown modifier "${unknown}"${meant(unknown, MODIFIERS)}` };
  const clash = clashOf(modifiers as Modifier[]);
  if (clash !== undefined) return { ok: false, message: `"${key}": ${clash}` };
  const has = (modifier: Modifier): boolean => modifiers.includes(modifier);
  const values: readonly Scalar[] = Array.isArray(value) ? value : [value as Scalar];
  if (values.length === 0) return { ok: false, message: `"${key}" has an empty list of values` };
  const get = reader(field);
  if (has("exists")) {
    const [wanted] = values;
    if (typeof wanted !== "boolean") return { ok: false, message: `"${key}" takes true or false` };
    return { ok: true, test: (record) => isThere(get(record)) === wanted };
  }
  if (has("fieldref")) {
    const others = values.map((name) => reader(String(name)));
    return {
      ok: true,
      test: (record) => others.some((other) => isThere(get(record)) && get(record) === other(record)),
    };
  }
  const tests: ValueTest[] = [];
  for (const [i, wanted] of values.entries()) {
    const made = valueTest(wanted, has);
    if (typeof made === "string")
      return { ok: false, message: `"${key}": ${made}`, ...(Array.isArray(value) ? { index: i } : {}) };
    tests.push(made);
  }
  return { ok: true, test: combined(get, tests, has("all")) };
}

/** Modifiers of which one would be passed over in silence. */
function clashOf(modifiers: readonly Modifier[]): string | undefined {
  const ways = modifiers.filter((modifier) => WAYS.has(modifier));
  if (new Set(modifiers).size < modifiers.length) return "a modifier stands twice";
  if (ways.length > 1) return `${ways.join(" and ")} are two ways to compare; say which`;
  const [way] = ways;
  if (modifiers.includes("i") && way !== "re")
    return "i belongs to re; other texts are compared without regard to case anyway";
  if (modifiers.includes("cased") && way !== undefined && !PLACES.some((place) => place === way))
    return `cased does nothing with ${way}`;
  return undefined;
}

const WAYS: ReadonlySet<string> = new Set(
  MODIFIERS.filter((modifier) => !["i", "all", "cased"].includes(modifier)),
);

function combined(get: (record: object) => unknown, tests: readonly ValueTest[], every: boolean): FieldTest {
  if (tests.length === 1 || !every)
    return (record) => {
      const found = get(record);
      if (Array.isArray(found)) return found.some((item) => tests.some((test) => test(item)));
      return tests.some((test) => test(found));
    };
  return (record) => {
    const found = get(record);
    const items = Array.isArray(found) ? found : [found];
    return tests.every((test) => items.some(test));
  };
}

const isThere = (value: unknown): boolean => value !== undefined && value !== null;

/** Reads a dotted path. Own properties only, so that a field named `constructor` finds nothing. */
export function reader(path: string): (record: object) => unknown {
  const names = path.split(".");
  const own = (value: unknown, name: string): unknown =>
    typeof value === "object" && value !== null && Object.hasOwn(value, name)
      ? (value as Record<string, unknown>)[name]
      : undefined;
  if (names.length === 1) return (record) => own(record, names[0]!);
  if (names.length === 2) return (record) => own(own(record, names[0]!), names[1]!);
  return (record) => names.reduce<unknown>(own, record);
}

/** A test of one value, or why there can be none. */
function valueTest(wanted: Scalar, has: (modifier: Modifier) => boolean): ValueTest | string {
  if (wanted === null) return (value) => !isThere(value);
  for (const bound of ["gt", "gte", "lt", "lte"] as const)
    if (has(bound)) {
      if (typeof wanted !== "number") return `${bound} takes a number`;
      return COMPARISONS[bound](wanted);
    }
  if (has("cidr")) return cidrTest(String(wanted));
  if (has("re")) return patternTest(String(wanted), has("i"));
  if (typeof wanted !== "string") return (value) => value === wanted || String(value) === String(wanted);
  return wordTest(wanted, has);
}

const number = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined);

const COMPARISONS = {
  gt: (bound: number) => (value: unknown) => (number(value) ?? Number.NaN) > bound,
  gte: (bound: number) => (value: unknown) => (number(value) ?? Number.NaN) >= bound,
  lt: (bound: number) => (value: unknown) => (number(value) ?? Number.NaN) < bound,
  lte: (bound: number) => (value: unknown) => (number(value) ?? Number.NaN) <= bound,
} as const;

function patternTest(source: string, ignoreCase: boolean): ValueTest | string {
  const made = compilePattern(source, { ignoreCase });
  return made.ok ? (value) => typeof value === "string" && made.test(value) : made.message;
}

function wordTest(wanted: string, has: (modifier: Modifier) => boolean): ValueTest | string {
  const place = PLACES.find(has) ?? "equals";
  const test = textTest(wanted, place, has("cased"));
  if (typeof test === "string") return test;
  return (value) => isThere(value) && test(typeof value === "string" ? value : String(value));
}

const PLACES = ["contains", "startswith", "endswith"] as const;

/** IPv4 and IPv6 networks. */
function cidrTest(text: string): ValueTest | string {
  const network = parseNetwork(text);
  if (network === undefined) return `${text} is not a network such as 10.0.0.0/8 or fd00::/8`;
  return (value) => {
    const address = typeof value === "string" ? parseIp(value) : undefined;
    return address !== undefined && isWithin(address, network);
  };
}
