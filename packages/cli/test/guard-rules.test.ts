import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { EXIT } from "../src/exit-codes.ts";
import { ale, temporaryHome } from "./support.ts";

const OWN = `title: Own rule
name: own-rule
tags: [attack.t1046, ale.controllability]
logsource: { category: net.deny }
detection: { ssh: { net.port: 22 }, condition: ssh }
`;

describe("ale guard", () => {
  it("lists the rules, the user's beside the shipped ones", async () => {
    const home = await temporaryHome();
    await writeFile(join(home, "own.yml"), OWN);
    const outcome = await ale(home, "guard", "rules", "--rules", join(home, "own.yml"));
    expect(outcome.stdout).toMatch(/^port-scan +high +record +T1046 /m);
    expect(outcome.stdout).toContain("own-rule");
  });

  it("explains a correlation with what it counts", async () => {
    const outcome = await ale(await temporaryHome(), "guard", "explain", "port-scan");
    expect(outcome.stdout).toContain("value_count: 15 or more values of net.port of refused-connection");
    expect(outcome.stdout).toContain("10s, for each sandbox and net.ip");
  });

  it("prints a rule as it is written, which is then a rule of one's own", async () => {
    const home = await temporaryHome();
    const { stdout } = await ale(home, "guard", "explain", "port-scan", "--yaml");
    await writeFile(join(home, "own.yml"), stdout.replace("name: port-scan", "name: own-scan"));
    const outcome = await ale(
      home,
      "guard",
      "explain",
      "own-scan",
      "--rules",
      join(home, "own.yml"),
      "--json",
    );
    expect(outcome.json()).toMatchObject({
      rule: { name: "own-scan", technique: "T1046", correlation: { type: "value_count" } },
      source: { file: join(home, "own.yml"), line: 1 },
    });
    const tried = await ale(home, "guard", "test", join(home, "own.yml"), "--json");
    expect(tried.json()).toMatchObject({ ok: true, failures: [] });
  });

  it("explains rules over the text of calls too, which have no YAML", async () => {
    const home = await temporaryHome();
    const outcome = await ale(home, "guard", "explain", "reverse-shell");
    expect(outcome.stdout).toMatch(/^severity +critical$/m);
    expect(outcome.stdout).toContain("what a tool call would run");
    expect((await ale(home, "guard", "explain", "reverse-shell", "--yaml")).exitCode).toBe(EXIT.usage);
  });

  it("names the rule that was probably meant", async () => {
    const outcome = await ale(await temporaryHome(), "guard", "explain", "port-scna");
    expect(outcome.exitCode).toBe(EXIT.usage);
    expect(outcome.stderr).toContain("did you mean: ale guard explain port-scan?");
  });

  it("finds all fixtures of the shipped rules to hold", async () => {
    const outcome = await ale(await temporaryHome(), "guard", "test", "--json");
    expect(outcome.json()).toMatchObject({ ok: true, failures: [], untested: [] });
  });

  it("wants fixtures of the user's rules too", async () => {
    const home = await temporaryHome();
    await writeFile(join(home, "own.yml"), OWN);
    const outcome = await ale(home, "guard", "test", join(home, "own.yml"), "--json");
    expect(outcome.exitCode).toBe(EXIT.failed);
    expect(outcome.json()).toMatchObject({ ok: false, untested: ["own-rule"] });
  });

  it("tells every fault of a rule file with its line and column", async () => {
    const home = await temporaryHome();
    const path = join(home, "own.yml");
    await writeFile(
      path,
      OWN.replace("net.port: 22", "net.port|contain: 22").replace("title: Own rule", "titel: x"),
    );
    const outcome = await ale(home, "guard", "test", path);
    expect(outcome.exitCode).toBe(EXIT.usage);
    expect(outcome.stderr).toContain(`${path}:1:1: own-rule: unknown key "titel"; did you mean "title"?`);
    expect(outcome.stderr).toContain("`ale guard explain port-scan --yaml` prints a rule that is right");
  });

  it("finds the pack that docs/how-to/guard-rules.md writes to be right, and its fixtures to hold", async () => {
    const home = await temporaryHome();
    const page = await readFile(join(import.meta.dirname, "../../../docs/how-to/guard-rules.md"), "utf8");
    const blocks = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map((match) => match[1]!);
    const pack = blocks.filter((block) => /^name:/m.test(block)).join("");
    await writeFile(join(home, "privileges.yml"), pack);
    const tried = await ale(home, "guard", "test", join(home, "privileges.yml"), "--json");
    expect(tried.json()).toMatchObject({ ok: true, failures: [], untested: [] });
    const listed = (await ale(home, "guard", "rules", "--rules", join(home, "privileges.yml"))).stdout;
    for (const name of ["setuid-search", "user-switch", "user-guessing"]) expect(listed).toContain(name);
  });
});
