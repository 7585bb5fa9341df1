import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { BenchContext, Benchmark } from "./benchmark.ts";
import { thisMachine } from "./machine.ts";
import { type Outcome, outcomePage, outcomeText } from "./report.ts";

/**
 * `npm run bench -- NAME [--quick] [--json] [--only PART]`; without a name it lists what there is. A full run is kept in
 * docs/benchmarks, quick and partial ones are not.
 */

const HERE = import.meta.dirname;
const DOCS = resolve(HERE, "..", "docs", "benchmarks");

const names = readdirSync(HERE, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(join(HERE, entry.name, "bench.ts")))
  .map((entry) => entry.name)
  .sort();

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      only: { type: "string" },
    },
  });
  const [name] = positionals;
  if (name === undefined) {
    for (const known of names) console.log(`${known.padEnd(12)} ${(await load(known)).title}`);
    return 0;
  }
  if (!names.includes(name)) return refuse(`there is no benchmark "${name}"; there are: ${names.join(", ")}`);
  const benchmark = await load(name);
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort(new Error("interrupted")));
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const versions: Record<string, string> = {};
  const version = (of: string, value: string): void => {
    versions[of] = value;
  };
  const context: BenchContext = {
    quick: values.quick,
    ...(values.only === undefined ? {} : { only: values.only }),
    version,
    say,
    signal: stop.signal,
  };
  const results = await benchmark.run(context);
  const outcome: Outcome = { name, machine: thisMachine(versions), results };
  if (!values.quick && values.only === undefined) keep(benchmark.title, outcome);
  (values.json ? say : console.log)(outcomeText(benchmark.title, outcome));
  if (values.json) console.log(JSON.stringify(outcome));
  return 0;
}

async function load(name: string): Promise<Benchmark> {
  return (await import(join(HERE, name, "bench.ts"))) as Benchmark;
}

function keep(title: string, outcome: Outcome): void {
  mkdirSync(DOCS, { recursive: true });
  writeFileSync(join(DOCS, `${outcome.name}.json`), `${JSON.stringify(outcome, null, 2)}\n`);
  writeFileSync(join(DOCS, `${outcome.name}.md`), outcomePage(title, outcome));
}

function refuse(why: string): number {
  console.error(why);
  return 2;
}

try {
  process.exitCode = await main();
} catch (error) {
  const { message, next } = error as { message: string; next?: string };
  console.error(next === undefined ? message : `${message}\n${next}`);
  process.exitCode = 1;
}
