/** What a benchmark is: a folder with a `bench.ts` that exports `title` and `run` (see Benchmark). Everything it reports was measured in that run. */

export interface Result {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** The same quantity of the reference, measured in the same run; null where there is none. */
  readonly reference: number | null;
  /** value / reference; null without a reference. */
  readonly ratio: number | null;
  /** For example "ratio ≤ 1.15"; null where the figure is only recorded. */
  readonly target: string | null;
  /** Whether the target holds; null without one. */
  readonly holds: boolean | null;
}

export interface BenchContext {
  /** Measure the same things with fewer repetitions, in at most a minute. */
  readonly quick: boolean;
  /** Measure this part alone. */
  readonly only?: string;
  /** Records the version of something that was measured, such as torch. */
  readonly version: (name: string, value: string) => void;
  /** A line about progress, for people. */
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** What `bench.ts` exports. */
export interface Benchmark {
  /** One line: what is measured, against what. */
  readonly title: string;
  readonly run: (context: BenchContext) => Promise<Result[]>;
}

/** Makes the `run` of a benchmark from named parts, one after the other. */
export function runParts(parts: Readonly<Record<string, Benchmark["run"]>>): Benchmark["run"] {
  return async (context) => {
    const names = Object.keys(parts).filter((name) => context.only === undefined || name === context.only);
    if (names.length === 0)
      throw new Error(`there is no part "${context.only}"; there are: ${Object.keys(parts).join(", ")}`);
    const results: Result[] = [];
    for (const name of names) {
      context.say(`${name} …`);
      results.push(...(await parts[name]!(context)));
    }
    return results;
  };
}

type Bound = { readonly atMost: number } | { readonly atLeast: number };

/** A figure with a reference from the same run; the bound, where there is one, is on their ratio. */
export function compared(
  what: string,
  value: number,
  unit: string,
  reference: number,
  bound?: Bound,
): Result {
  const ratio = value / reference;
  return { what, value, unit, reference, ratio, ...judged("ratio ", ratio, bound) };
}

/** A figure without a reference; the bound, where there is one, is on the figure itself. */
export function measured(what: string, value: number, unit: string, bound?: Bound): Result {
  return { what, value, unit, reference: null, ratio: null, ...judged("", value, bound) };
}

function judged(name: string, value: number, bound?: Bound): Pick<Result, "target" | "holds"> {
  if (bound === undefined) return { target: null, holds: null };
  return "atMost" in bound
    ? { target: `${name}≤ ${limit(bound.atMost)}`, holds: value <= bound.atMost }
    : { target: `${name}≥ ${limit(bound.atLeast)}`, holds: value >= bound.atLeast };
}

const limit = (value: number): string =>
  value !== 0 && value < 1e-3 ? value.toExponential() : String(value);

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
