import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { rulesWith } from "../src/rollout/watch.ts";

const HEAD = "tags: [attack.t1046, ale.controllability]\n";

test.each([
  [
    "replace a rule that ships",
    `title: Own\nname: port-scan\n${HEAD}level: low
logsource: { category: net.deny }
detection: { any: { net.rule: scan }, condition: any }
ale: { overrides: true }\n`,
    { name: "port-scan", level: "low" },
  ],
  [
    "count what a rule that ships matches",
    `title: Own\nname: own-count\n${HEAD}level: low
correlation: { type: event_count, rules: [refused-connection], timespan: 1m, condition: { gte: 3 } }\n`,
    { name: "own-count", correlation: { rules: ["refused-connection"] } },
  ],
])("a pack may %s, wherever it is named", (_what, yaml, wanted) => {
  const folder = mkdtempSync(join(tmpdir(), "ale-watch-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "own.yml"), yaml);
  const found = rulesWith([folder]).filter(({ name }) => name === wanted.name);
  expect(found).toMatchObject([wanted]);
});
