import type { Result } from "./benchmark.ts";
import type { Machine } from "./machine.ts";

/** The outcome of one benchmark, as `--json` prints it and docs/benchmarks keeps it. */
export interface Outcome {
  readonly name: string;
  readonly machine: Machine;
  readonly results: readonly Result[];
}

const COLUMNS = ["what", "value", "unit", "reference", "ratio", "target", "holds"] as const;

/** For a terminal: a table under the machine and the versions. */
export function outcomeText(title: string, outcome: Outcome): string {
  const rows = [COLUMNS as readonly string[], ...outcome.results.map(cells)];
  const widths = COLUMNS.map((_column, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const numeric = new Set([1, 3, 4]);
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (numeric.has(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
  return [`${outcome.name}: ${title}`, machineLine(outcome.machine), "", ...lines].join("\n");
}

/** The page of docs/benchmarks, a pure function of the stored outcome. */
export function outcomePage(title: string, outcome: Outcome): string {
  const row = (items: readonly string[]): string => `| ${items.join(" | ")} |`;
  return [
    `# Benchmark: ${outcome.name}`,
    "",
    `${title}.`,
    "",
    `Measured on ${machineLine(outcome.machine)}.`,
    "",
    row(COLUMNS),
    row(COLUMNS.map((_column, i) => (i === 1 || i === 3 || i === 4 ? "---:" : "---"))),
    ...outcome.results.map((result) => row(cells(result).map((cell) => cell.replaceAll("|", "\\|")))),
    "",
    `Generated from \`${outcome.name}.json\`; \`npm run bench -- ${outcome.name}\` measures it again.`,
    "",
  ].join("\n");
}

function cells(result: Result): string[] {
  const { what, value, unit, reference, ratio, target, holds } = result;
  return [
    what,
    figure(value),
    unit,
    reference === null ? "" : figure(reference),
    ratio === null ? "" : figure(ratio),
    target ?? "",
    holds === null ? "" : holds ? "yes" : "NO",
  ];
}

/** Four significant digits, without an exponent where that is readable. */
function figure(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-3) return value.toExponential(1);
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
}

function machineLine(machine: Machine): string {
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  const { cpu, cores, memoryGiB, system, kernel } = machine;
  return [`${cpu}, ${cores} cores, ${memoryGiB} GiB`, system, kernel, ...versions].join("; ");
}
