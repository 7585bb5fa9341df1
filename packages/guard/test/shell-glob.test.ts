import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commandsOf, effectsOf, shellStart } from "../src/index.ts";
import { matchesGlob, parseGlob } from "../src/shell-glob.ts";

const means = (glob: string, path: string, options = {}): boolean =>
  matchesGlob(parseGlob(glob, options), path);

describe("a shell glob", () => {
  const FILES = ["a", "b.sh", "c.sh", ".key", "[x]", "d-1", "sub/a", "sub/.hid/x", "aab", "é"];
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "glob-"));
    for (const file of FILES) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), "");
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([
    "*",
    "*.sh",
    "[bc].sh",
    "[!b].sh",
    "[^b]*",
    "[a-c]*",
    "?",
    "??????",
    ".*",
    ".k*",
    "*/*",
    "s*/a",
    "sub/*/x",
    "sub/.*/x",
    "{a,b.sh}",
    "{.key,x}",
    "{a,aa}{,b}",
    "{*,x}.sh",
    "*a*b",
    "a**b",
    "[[]x]",
    "[]x]*",
    "d-[0-9]",
    "[.]key",
    "{a}",
    "*-1",
  ])("%s means the files that bash means", (glob) => {
    const script = `shopt -s nullglob; printf '%s\\n' ${glob}`;
    const out = execFileSync("bash", ["-c", script], {
      cwd: folder,
      encoding: "utf8",
      env: { LC_ALL: "C.UTF-8", PATH: process.env.PATH },
    });
    const meant = new Set(out.split("\n"));
    for (const file of FILES) expect([file, means(glob, file)]).toEqual([file, meant.has(file)]);
  });

  it("of find means hidden files too", () => {
    expect(means("*ey", "/.key".slice(1), { hidden: true })).toBe(true);
    expect(means("*ey", ".key")).toBe(false);
  });

  it.each([
    ["rm ./*.sh", "/work", "/work/test.sh", true],
    ["rm -r c*", "/work", "/work/checks/unit.py", true],
    ["cat c*", "/work", "/work/checks/unit.py", false],
    ["find . -name '*.py' -delete", "/work", "/work/checks/unit.py", true],
    ["find . -delete", "/work", "/work/checks/unit.py", true],
    ["find /srv -name '[z-a]' -delete", "/work", "/work/checks/unit.py", false],
    ["cd $X; rm *.py", "/work", "/work/checks/unit.py", true],
    ["cd $X; rm unit.py", "/work", "/work/checks/unit.py", true],
    ["cat {.key,other}", "/work", "/work/.key", true],
  ])("%s reaches what it would change", (script, cwd, path, expected) => {
    const reached = commandsOf(script, shellStart(cwd))
      .commands.flatMap(effectsOf)
      .filter(({ pattern }) => pattern !== null && matchesGlob(pattern, path));
    expect(reached.length > 0).toBe(expected);
  });

  it.each(["{,}", "{?,?}", "{a,a}", "{*,*}", "*a", "[", "{", "{a", "[a-", "{a,"])(
    "of many %s costs no more than its length",
    (part) => {
      const start = process.cpuUsage();
      for (const path of ["/work/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", `/work/${"a".repeat(200)}`])
        means(`/work/${part.repeat(15_000)}x`, path);
      const { user, system } = process.cpuUsage(start);
      expect((user + system) / 1e6).toBeLessThan(2);
    },
  );
});
