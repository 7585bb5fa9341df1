/**
 * Which test files of a failed vitest run deserve a second look, alone: docs/decisions/0020. Reads the run's report, prints them relative
 * to the repository, one a line, and exits 1 where the run is to stay as it is.
 */
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { pathToFileURL } from "node:url";

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/** More than so many do not fail by chance. */
const MOST_FILES = 3;
/** What got out once got out. */
const NEVER = /(^|\/)(containment|egress|network|incident|evidence)[./-]/;

/** Paths relative to `root`; null: none of it is to be looked at again. */
export function secondLook(json: string, root: string): readonly string[] | null {
  const report = JSON.parse(json) as Report;
  const failed = report.testResults.filter(({ status }) => status === "failed");
  const named = failed.every(({ assertionResults }) =>
    assertionResults.some(({ status }) => status === "failed"),
  );
  const files = failed.map(({ name }) => relative(root, name));
  if (files.length === 0 || files.length > MOST_FILES || !named || files.some((file) => NEVER.test(file)))
    return null;
  return files;
}

function main(path: string): void {
  let files: readonly string[] | null = null;
  try {
    files = secondLook(readFileSync(path, "utf8"), process.cwd());
  } catch {
    // A run without a whole report is not looked at again.
  }
  if (files === null) process.exit(1);
  console.log(files.join("\n"));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main(process.argv[2] ?? "");
