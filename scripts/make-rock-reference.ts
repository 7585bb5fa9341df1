/**
 * Writes docs/reference/rock-api.md from the schemas that the server validates with. `--check`: writes nothing, exits 1 where the file
 * is not what it would write.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { approvalsApi } from "../packages/cli/src/rock/approvals-api.ts";
import { ApprovalStore } from "../packages/guard/src/index.ts";
import { describedApp, openApiOf, referenceText } from "../packages/rock/src/server/index.ts";

const path = resolve(import.meta.dirname, "..", "docs", "reference", "rock-api.md");
const directory = mkdtempSync(join(tmpdir(), "ale-reference-"));
const app = await describedApp(directory, [approvalsApi(new ApprovalStore(directory))]);
const text = referenceText(openApiOf(app));
await app.close();
rmSync(directory, { recursive: true });
if (!process.argv.includes("--check")) writeFileSync(path, text);
else if (readFileSync(path, "utf8") !== text) {
  console.error("docs/reference/rock-api.md is stale: node scripts/make-rock-reference.ts");
  process.exit(1);
}
