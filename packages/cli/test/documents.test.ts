import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { takeGlobals } from "../src/args.ts";
import { EXIT } from "../src/exit-codes.ts";
import { findCommand } from "../src/find-command.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const PAGES = globSync(["*.md", "docs/**/*.md", "packages/*/README.md", "benchmarks/*.md"], { cwd: ROOT });

/** What a page links to, itself left out: [page, target] */
const links = PAGES.flatMap((page) =>
  [...readFileSync(join(ROOT, page), "utf8").matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => [page, match[1]!.replace(/#.*$/, "")] as const)
    .filter(([, target]) => target !== "" && !/^[a-z]+:/.test(target)),
);

/** Command lines that a page tells the reader to type. */
const commands = PAGES.flatMap((page) =>
  [...readFileSync(join(ROOT, page), "utf8").matchAll(/(?:^|`)\.\/ale ([^`\n#|]+)/gm)].map(
    (match) => [page, match[1]!.trim()] as const,
  ),
);

describe("the documents", () => {
  it("link only to what is there", () => {
    const broken = links.filter(([page, target]) => !existsSync(join(ROOT, dirname(page), target)));
    expect(links.length).toBeGreaterThan(15);
    expect(broken).toEqual([]);
  });

  it("name only commands that exist, with options that they have", async () => {
    const wrong: string[] = [];
    for (const [page, line] of commands) {
      const found = findCommand(takeGlobals(line.split(/\s+/)).rest);
      if (found.type === "group") continue;
      const { usage } = await found.command.load();
      const end = found.argv.indexOf("--");
      const options = (end < 0 ? found.argv : found.argv.slice(0, end))
        .filter((word) => word.startsWith("--"))
        .map((word) => word.slice(2).split("=")[0]!);
      if (options.some((name) => usage.options[name] === undefined)) wrong.push(`${page}: ${line}`);
    }
    expect(commands.length).toBeGreaterThan(10);
    expect(wrong).toEqual([]);
  });

  it("list every exit code", () => {
    const page = readFileSync(join(ROOT, "docs/reference/exit-codes.md"), "utf8");
    const listed = [...page.matchAll(/^\| (\d+) +\|/gm)].map((match) => Number(match[1]));
    expect(listed).toEqual(Object.values(EXIT));
  });
});
