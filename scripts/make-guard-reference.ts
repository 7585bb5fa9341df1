/**
 * Writes docs/reference/guard-rules.md from the rules that ship. `--check`: writes nothing, exits 1 where the file is not what it would write.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { shippedRules } from "../packages/guard/src/sigma/pack.ts";
import { ruleReference } from "../packages/guard/src/sigma/reference.ts";

const path = resolve(import.meta.dirname, "..", "docs", "reference", "guard-rules.md");
const text = ruleReference(shippedRules());
if (!process.argv.includes("--check")) writeFileSync(path, text);
else if (readFileSync(path, "utf8") !== text) {
  console.error("docs/reference/guard-rules.md is stale: node scripts/make-guard-reference.ts");
  process.exit(1);
}
