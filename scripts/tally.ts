/**
 * The sum of what ./test ran. Reads a folder with `exit-codes` (one `<check> <exit code>` a line) and the suites' own reports
 * (`vitest.json`, `vitest-again.json` of a second look, `pytest.xml`), prints what was unsteady and `N passed, N failed[, N skipped]` and exits 1 when anything failed. A check without
 * a report of its own counts as one; a suite that ended badly without naming a failed test counts as one failure.
 */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly name?: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName?: string }[];
  }[];
}

export function tallyVitest(json: string): Tally {
  const report = JSON.parse(json) as VitestReport;
  // A file that could not be loaded has no assertions; it is a failure all the same.
  const brokenFiles = report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((one) => one.status === "failed"),
  ).length;
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/** After a second look at what failed: it has failed if it failed again. */
export function tallyAgain(first: Tally, again: Tally): Tally {
  const failed = Math.min(again.failed, first.failed);
  return { ...first, passed: first.passed + first.failed - failed, failed };
}

/** Tests that failed beside others, as `file > test`. */
export const failedTests = (json: string): readonly string[] =>
  (JSON.parse(json) as VitestReport).testResults.flatMap(({ name = "", assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName = "" }) => `${basename(name)} > ${fullName}`),
  );

export function tallyJunit(xml: string): Tally {
  const suites = [...xml.matchAll(/<testsuite\s([^>]*)>/g)];
  if (suites.length === 0) throw new Error("no <testsuite> in the report");
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for (const [, attributes] of suites) {
    const count = (name: string): number =>
      Number(new RegExp(`\\b${name}="(\\d+)"`).exec(attributes ?? "")?.[1] ?? 0);
    const bad = count("failures") + count("errors");
    failed += bad;
    skipped += count("skipped");
    passed += count("tests") - bad - count("skipped");
  }
  return { passed, failed, skipped };
}

/** One check: from its report where it has one, else from its exit code. `report` is null when there is none to read. */
export function tallyCheck(
  name: string,
  exitCode: number,
  report: string | null,
  again: string | null = null,
): Tally {
  const isSuite = name === "vitest" || name === "pytest";
  if (!isSuite) return { passed: exitCode === 0 ? 1 : 0, failed: exitCode === 0 ? 0 : 1, skipped: 0 };
  let tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  try {
    if (report !== null) tally = name === "vitest" ? tallyVitest(report) : tallyJunit(report);
    if (again !== null) tally = tallyAgain(tally, tallyVitest(again));
  } catch {
    tally = { passed: 0, failed: 1, skipped: 0 };
  }
  return exitCode !== 0 && tally.failed === 0 ? { ...tally, failed: 1 } : tally;
}

export function sum(tallies: readonly Tally[]): Tally {
  return tallies.reduce(
    (total, one) => ({
      passed: total.passed + one.passed,
      failed: total.failed + one.failed,
      skipped: total.skipped + one.skipped,
    }),
    { passed: 0, failed: 0, skipped: 0 },
  );
}

export const tallyLine = (tally: Tally): string =>
  `${tally.passed} passed, ${tally.failed} failed${tally.skipped > 0 ? `, ${tally.skipped} skipped` : ""}`;

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

function tellUnsteady(report: string, again: string): void {
  const still = failedTests(again);
  for (const test of failedTests(report))
    if (!still.includes(test)) console.log(`unsteady: failed beside others, passed alone: ${test}`);
}

function main(folder: string): void {
  const lines = (readOrNull(join(folder, "exit-codes")) ?? "").split("\n").filter((line) => line !== "");
  const reports: Readonly<Record<string, string>> = { vitest: "vitest.json", pytest: "pytest.xml" };
  const checks = lines.map((line) => {
    const [name = "", code = "1"] = line.split(" ");
    const file = reports[name];
    const report = file === undefined ? null : readOrNull(join(folder, file));
    const again = name === "vitest" ? readOrNull(join(folder, "vitest-again.json")) : null;
    if (again !== null && report !== null) tellUnsteady(report, again);
    return { name, tally: tallyCheck(name, Number(code), report, again) };
  });
  for (const { name, tally } of checks) console.log(`${name.padEnd(8)} ${tallyLine(tally)}`);
  const total = sum(checks.map((check) => check.tally));
  console.log(tallyLine(total));
  process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main(process.argv[2] ?? ".");
